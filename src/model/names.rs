//! Names that clients choose.

use std::fmt;
use std::sync::Arc;

use super::Invalid;

/// The longest namespace or attribute name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// The name of a namespace: 1 to 128 bytes of `[A-Za-z0-9-_.]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceName(Arc<str>);

impl NamespaceName {
    /// Checks a name as it comes from a client.
    pub fn parse(name: &str) -> Result<Self, Invalid> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Invalid::new(format!(
                "namespace name must have 1 to {NAME_BYTES_MAX} bytes, got {}",
                name.len()
            )));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        match name.chars().find(|c| !allowed(*c)) {
            None => Ok(Self(name.into())),
            Some(c) => Err(Invalid::new(format!(
                "namespace name may only contain A-Z, a-z, 0-9, '-', '_' and '.', got {c:?}"
            ))),
        }
    }

    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An organization's id, made by the control plane: lower-case letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrgId(Arc<str>);

impl OrgId {
    /// The organization of single-tenant deployments.
    pub fn default_org() -> Self {
        Self("default".into())
    }

    /// An id as it stands in stored records, tokens and object keys: 1 to 64 of `a-z`, `0-9`, `-`, `_`.
    pub fn parse(id: &str) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        match (1..=64).contains(&id.len()) && id.bytes().all(allowed) {
            true => Ok(Self(id.into())),
            false => Err(Invalid::new("this is no id of an organization")),
        }
    }

    /// The id as it stands in object keys.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks an attribute name as it comes from a client.
pub fn check_attribute_name(name: &str) -> Result<(), Invalid> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Invalid::new(format!(
            "attribute name must have 1 to {NAME_BYTES_MAX} bytes, got {}",
            name.len()
        )));
    }
    if name.starts_with('$') {
        return Err(Invalid::new(format!(
            "attribute name {name:?} must not begin with '$', which is reserved"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_both_ends() {
        assert!(NamespaceName::parse(&"a".repeat(128)).is_ok());
        assert!(NamespaceName::parse("..").is_ok());
        for bad in ["", &"a".repeat(129), "a b", "ä", "a/b"] {
            assert!(NamespaceName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(check_attribute_name("ä b").is_ok());
        assert!(check_attribute_name("$dist").is_err());
    }
}
