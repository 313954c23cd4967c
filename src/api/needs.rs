//! What each route asks of its caller. Every line of the route table has one of these.

use crate::auth::Surface;
use crate::control::Action;

/// Which path parameter names what an action is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The caller's organization, or namespaces that the body names: the handler authorises those.
    Nothing,
    /// `{namespace}` or `{collection}`.
    Namespace,
    /// `{org}`: the slug of an organization, or its id below `/v3`; its absence in the path means the caller's
    /// own.
    Organization,
    /// As before, and something of it that is in a group: the door lets tokens of one group in, and the handler
    /// authorises once more when it knows which group it is.
    InGroup,
}

/// What a request has to show before its handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Which credentials count; `None` for what anybody may ask.
    pub surface: Option<Surface>,
    /// At least one of these has to be allowed; the handler asks for what its body uses besides. Empty: being
    /// known is enough.
    pub any_of: &'static [Action],
    pub subject: Subject,
    /// Whether browsers of other origins may ask, and a query parameter may carry the key.
    pub is_search: bool,
}

/// Nobody has to be known.
pub const OPEN: Needs = Needs {
    surface: None,
    any_of: &[],
    subject: Subject::Nothing,
    is_search: false,
};

/// One of these, done to the namespace in the path.
pub const fn data(any_of: &'static [Action]) -> Needs {
    Needs {
        surface: Some(Surface::Data),
        any_of,
        subject: Subject::Namespace,
        is_search: false,
    }
}

/// One of these in the organization; what the body names is authorised by the handler.
pub const fn data_of_org(any_of: &'static [Action]) -> Needs {
    Needs {
        subject: Subject::Nothing,
        ..data(any_of)
    }
}

/// Searching the namespace in the path.
pub const SEARCH: Needs = Needs {
    surface: Some(Surface::Search),
    is_search: true,
    ..data(&[Action::DocumentsSearch])
};

/// Searching the namespaces that the body names.
pub const SEARCH_MANY: Needs = Needs {
    subject: Subject::Nothing,
    ..SEARCH
};

/// Keys of the caller's organization.
pub const fn keys(any_of: &'static [Action]) -> Needs {
    Needs {
        surface: Some(Surface::Keys),
        subject: Subject::Nothing,
        ..data(any_of)
    }
}

/// One of these in the organization in the path.
pub const fn platform(any_of: &'static [Action]) -> Needs {
    Needs {
        surface: Some(Surface::Platform),
        subject: Subject::Organization,
        ..data(any_of)
    }
}

/// One of these in a group of the organization in the path; the handler authorises with the group.
pub const fn platform_in_group(any_of: &'static [Action]) -> Needs {
    Needs {
        subject: Subject::InGroup,
        ..platform(any_of)
    }
}

/// Any credential that counts, whatever it may do.
pub const ANYBODY_KNOWN: Needs = Needs {
    surface: Some(Surface::Any),
    subject: Subject::Nothing,
    ..data(&[])
};

/// A user, a platform token or a bootstrap key, whatever it may do.
pub const KNOWN_USER: Needs = Needs {
    surface: Some(Surface::Platform),
    subject: Subject::Nothing,
    ..data(&[])
};
