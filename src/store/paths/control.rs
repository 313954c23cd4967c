//! The keys of the control plane.
//!
//! ```text
//! _control/root                              record: deployment id, ids of deployment secrets
//! _control/slugs/<slug>                      claim: organization id
//! _control/orgs/<org>/org                    record: name, plan, members, flags
//! _control/orgs/<org>/groups/<uuid>          record: name, locations, token generation, flags
//! _control/orgs/<org>/group-names/<name>     record: uuid
//! _control/orgs/<org>/keys/<id, 10 digits>   record: an API key, without its value
//! _control/orgs/<org>/invites/<hex e-mail>   record: an invitation
//! _control/orgs/<org>/issuers/<hex name>     record: an external issuer of tokens
//! _control/orgs/<org>/tokens/<id>            marker: a platform token of this organization
//! _control/orgs/<org>/<kind>/<hex name>      record: a synonym set, preset, stopword set or collection
//! _control/orgs/<org>/mints/<sha-256>         record: what was made for an idempotency key
//! _control/orgs/<org>/audit/<day>/<name>     lines of the audit log
//! _control/orgs/<org>/audit-heads/<day>/<stream>  record: how many files a node has written that day, sealed
//! _control/orgs/<org>/usage/<month>/parts/<stream>-<number>  one flush of a node's meters
//! _control/orgs/<org>/usage/<month>/rollup   record: the sum of the parts
//! _control/orgs/<org>/usage/stored           record: what the namespaces store
//! _control/rev/<hh>                          record: which organizations changed lately
//! _control/auth/sha/<sha-256>                claim: organization and id of the API key with this digest
//! _control/auth/p4/<hex>/<org>.<id>          marker: search keys whose value begins with these 4 bytes
//! _control/users/<id>/user                   record: a user
//! _control/users/<id>/tokens/<hex name>      record: the user's platform token of that name
//! _control/user-names/<hex name>             record: user id; the same for e-mail addresses
//! _control/invited/<hex e-mail>              record: which organizations invited this address
//! _control/tokens/<id>                       record: a platform token, without its value
//! _control/nodes/<id>                        object: heartbeat of a node, written anew by that node alone
//! ```
//!
//! Names that people choose stand in hexadecimal behind an `n`, so that no store folds or refuses them. A record is
//! a directory of revisions, see `store::record`; claims and markers are records of one revision.

use object_store::path::Path;
use uuid::Uuid;

use crate::model::OrgId;

/// `n` in front, so that the empty name has a key, too.
fn hex(text: &str) -> String {
    let digits = text.bytes().map(|b| format!("{b:02x}"));
    std::iter::once("n".to_owned()).chain(digits).collect()
}

fn unhex(text: &str) -> Option<String> {
    let digits = text.strip_prefix('n')?.as_bytes();
    let even = digits.len().is_multiple_of(2) && digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let bytes = even.then(|| {
        let pairs = digits.chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
        pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
    });
    String::from_utf8(bytes?).ok()
}

fn in_org(org: &OrgId, rest: &str) -> Path {
    Path::from(format!("_control/orgs/{}/{rest}", org.as_str()))
}

/// The record of the deployment.
pub fn root() -> Path {
    Path::from("_control/root")
}

/// All slugs of organizations.
pub fn slugs() -> Path {
    Path::from("_control/slugs")
}

/// Who has the slug; it consists of `a-z`, `0-9` and `-`.
pub fn slug(slug: &str) -> Path {
    Path::from(format!("_control/slugs/{slug}"))
}

/// The record of an organization.
pub fn org(org: &OrgId) -> Path {
    in_org(org, "org")
}

/// All groups of an organization.
pub fn groups(org: &OrgId) -> Path {
    in_org(org, "groups")
}

/// The record of a group.
pub fn group(org: &OrgId, id: Uuid) -> Path {
    in_org(org, &format!("groups/{id}"))
}

/// All names of groups of an organization.
pub fn group_names(org: &OrgId) -> Path {
    in_org(org, "group-names")
}

/// Which group has a name.
pub fn group_name(org: &OrgId, name: &str) -> Path {
    in_org(org, &format!("group-names/{}", hex(name)))
}

/// All API keys of an organization.
pub fn keys(org: &OrgId) -> Path {
    in_org(org, "keys")
}

/// The record of an API key.
pub fn key(org: &OrgId, id: u64) -> Path {
    in_org(org, &format!("keys/{id:010}"))
}

/// Which API key a revision of its record belongs to; `None` for a foreign object.
pub fn parse_key(revision: &Path) -> Option<u64> {
    revision.as_ref().rsplit('/').nth(1)?.parse().ok()
}

/// Records of an organization that have names, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Named {
    Invite,
    Issuer,
    SynonymSet,
    Preset,
    StopwordSet,
    Collection,
}

impl Named {
    fn directory(self) -> &'static str {
        match self {
            Named::Invite => "invites",
            Named::Issuer => "issuers",
            Named::SynonymSet => "synonym-sets",
            Named::Preset => "presets",
            Named::StopwordSet => "stopword-sets",
            Named::Collection => "collections",
        }
    }
}

/// All records of a kind.
pub fn all_named(org: &OrgId, kind: Named) -> Path {
    in_org(org, kind.directory())
}

/// A record of a kind by its name.
pub fn named(org: &OrgId, kind: Named, name: &str) -> Path {
    in_org(org, &format!("{}/{}", kind.directory(), hex(name)))
}

/// The name of a record whose revision was found below [`all_named`], or below the records of names of
/// users, groups and tokens; `None` for a foreign object.
pub fn parse_named(revision: &Path) -> Option<String> {
    unhex(revision.as_ref().rsplit('/').nth(1)?)
}

/// Markers of all platform tokens that are bound to an organization.
pub fn org_tokens(org: &OrgId) -> Path {
    in_org(org, "tokens")
}

/// The marker of one.
pub fn org_token(org: &OrgId, id: &str) -> Path {
    in_org(org, &format!("tokens/{}", hex(id)))
}

/// All that is remembered of requests with idempotency keys.
pub fn mints(org: &OrgId) -> Path {
    in_org(org, "mints")
}

/// What is remembered of one, by the digest of who asked, for what and with which key.
pub fn mint(org: &OrgId, digest: &[u8; 32]) -> Path {
    let digits: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    in_org(org, &format!("mints/{digits}"))
}

/// The audit log of a day, `yyyy-mm-dd`.
pub fn audit_day(org: &OrgId, day: &str) -> Path {
    in_org(org, &format!("audit/{day}"))
}

/// All of the audit log.
pub fn audit(org: &OrgId) -> Path {
    in_org(org, "audit")
}

/// One file of the audit log; names sort by time.
pub fn audit_file(org: &OrgId, day: &str, name: &str) -> Path {
    in_org(org, &format!("audit/{day}/{name}"))
}

/// The records that say how far the streams of a day's audit log go.
pub fn audit_heads(org: &OrgId, day: &str) -> Path {
    in_org(org, &format!("audit-heads/{day}"))
}

/// The record of one stream.
pub fn audit_head(org: &OrgId, day: &str, stream: &str) -> Path {
    in_org(org, &format!("audit-heads/{day}/{stream}"))
}

/// The stream whose record a revision below [`audit_heads`] belongs to; `None` for a foreign object.
pub fn parse_audit_head(revision: &Path) -> Option<&str> {
    revision.as_ref().rsplit('/').nth(1)
}

/// The parts of a month's usage, `yyyy-mm`.
pub fn usage_month(org: &OrgId, month: &str) -> Path {
    in_org(org, &format!("usage/{month}/parts"))
}

/// One flush of a node's meters.
pub fn usage_part(org: &OrgId, month: &str, name: &str) -> Path {
    in_org(org, &format!("usage/{month}/parts/{name}"))
}

/// The record of a month's sum.
pub fn usage_rollup(org: &OrgId, month: &str) -> Path {
    in_org(org, &format!("usage/{month}/rollup"))
}

/// The record of what an organization's namespaces store.
pub fn usage_stored(org: &OrgId) -> Path {
    in_org(org, "usage/stored")
}

/// The record of the organizations of a shard that changed lately.
pub fn rev_shard(shard: u8) -> Path {
    Path::from(format!("_control/rev/{shard:02x}"))
}

/// Which API key has this digest.
pub fn key_digest(sha256: &[u8; 32]) -> Path {
    let digits: String = sha256.iter().map(|b| format!("{b:02x}")).collect();
    Path::from(format!("_control/auth/sha/{digits}"))
}

/// The claims of all digests.
pub fn key_digests() -> Path {
    Path::from("_control/auth/sha")
}

/// The digest, in hexadecimal, whose claim a revision belongs to; `None` for a foreign object.
pub fn parse_key_digest(revision: &Path) -> Option<&str> {
    revision.as_ref().rsplit('/').nth(1)
}

/// Markers of all search keys.
pub fn key_prefixes() -> Path {
    Path::from("_control/auth/p4")
}

/// Markers of the search keys whose value begins with `prefix`.
pub fn key_prefix(prefix: &[u8; 4]) -> Path {
    let digits: String = prefix.iter().map(|b| format!("{b:02x}")).collect();
    Path::from(format!("_control/auth/p4/{digits}"))
}

/// The marker of one.
pub fn key_prefix_marker(prefix: &[u8; 4], org: &OrgId, id: u64) -> Path {
    Path::from(format!("{}/{}.{id}", key_prefix(prefix), org.as_str()))
}

/// The prefix, organization and id that a marker stands for; `None` for a foreign object.
pub fn parse_key_prefix_marker(key: &Path) -> Option<([u8; 4], OrgId, u64)> {
    let mut parts = key.as_ref().rsplit('/');
    let (org, id) = parts.next()?.rsplit_once('.')?;
    let digits = u32::from_str_radix(parts.next().filter(|p| p.len() == 8)?, 16).ok()?;
    Some((digits.to_be_bytes(), OrgId::parse(org).ok()?, id.parse().ok()?))
}

/// The record of a user.
pub fn user(id: &str) -> Path {
    Path::from(format!("_control/users/{id}/user"))
}

/// Which user has this name or e-mail address.
pub fn user_name(name: &str) -> Path {
    Path::from(format!("_control/user-names/{}", hex(name)))
}

/// All names of users.
pub fn user_names() -> Path {
    Path::from("_control/user-names")
}

/// Which organizations invited an e-mail address.
pub fn invited(email: &str) -> Path {
    Path::from(format!("_control/invited/{}", hex(email)))
}

/// All platform tokens of a user.
pub fn user_tokens(user: &str) -> Path {
    Path::from(format!("_control/users/{user}/tokens"))
}

/// Which platform token of a user has a name.
pub fn user_token(user: &str, name: &str) -> Path {
    Path::from(format!("_control/users/{user}/tokens/{}", hex(name)))
}

/// The record of a platform token.
pub fn token(id: &str) -> Path {
    Path::from(format!("_control/tokens/{}", hex(id)))
}

/// Heartbeats of all nodes.
pub fn nodes() -> Path {
    Path::from("_control/nodes")
}

/// The heartbeat of a node.
pub fn node(id: &str) -> Path {
    Path::from(format!("_control/nodes/{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_choose_survive() {
        for name in ["a@b.test", "Ünïcode / name", "", "..", "a%2f"] {
            let revision = super::super::record_revision(&named(&OrgId::default_org(), Named::Invite, name), 3);
            assert_eq!(parse_named(&revision).as_deref(), Some(name));
        }
        assert_eq!(parse_named(&Path::from("_control/orgs/x/invites/zz/00")), None);
    }

    #[test]
    fn markers_of_keys_are_read_back() {
        let org = OrgId::parse("org_1").expect("legal");
        let marker = key_prefix_marker(b"k7Qm", &org, 12);
        assert_eq!(marker.as_ref(), "_control/auth/p4/6b37516d/org_1.12");
        assert_eq!(parse_key_prefix_marker(&marker), Some((*b"k7Qm", org.clone(), 12)));
        assert_eq!(
            parse_key_prefix_marker(&Path::from("_control/auth/p4/6b37516d/x")),
            None
        );
        let revision = super::super::record_revision(&key(&org, 7), 1);
        assert_eq!(parse_key(&revision), Some(7));
    }
}
