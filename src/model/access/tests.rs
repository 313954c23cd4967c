use serde_json::json;

use super::*;
use crate::model::FilterOp;

const ID: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
const ALL: [Access; 4] = [Access::Search, Access::Read, Access::Write, Access::Manage];

fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

/// The kind and code of the refusal of each access, if any.
fn refusals(
    guard: Option<&Guard>,
    exists: bool,
    settings: &Settings,
) -> Vec<Option<(ErrorKind, Option<&'static str>)>> {
    let name = NamespaceName::parse("ns").expect("a valid name");
    let target = Target {
        name: &name,
        exists,
        id: exists.then_some(ID),
        settings,
    };
    let refusal = |access: &Access| check(guard, *access, &target).err().map(|e| (e.kind, e.code));
    ALL.iter().map(refusal).collect()
}

const UNAUTHENTICATED: Option<(ErrorKind, Option<&str>)> = Some((ErrorKind::Unauthenticated, None));
const FORBIDDEN: Option<(ErrorKind, Option<&str>)> = Some((ErrorKind::Forbidden, None));
const READS: Option<(ErrorKind, Option<&str>)> = Some((ErrorKind::Forbidden, Some("blocked_reads")));
const WRITES: Option<(ErrorKind, Option<&str>)> = Some((ErrorKind::Forbidden, Some("blocked_writes")));

#[test]
fn without_anything_said_everything_passes() {
    for guard in [None, Some(&Guard::default())] {
        for exists in [true, false] {
            assert_eq!(refusals(guard, exists, &Settings::default()), [None; 4]);
        }
    }
}

#[test]
fn a_token_fits_one_generation_of_one_namespace_or_a_group() {
    let second = settings(|s| s.token_gen = 2);
    let grouped = settings(|s| s.group = Some(ID));
    let of_namespace = |id, generation| TokenGuard::Namespace { id, generation };
    let of_group = |id, is_default| TokenGuard::Group { id, is_default };
    for (token, exists, settings, fits) in [
        (of_namespace(ID, 0), true, &Settings::default(), true),
        (of_namespace(ID, 2), true, &second, true),
        (of_namespace(ID, 1), true, &second, false),
        (of_namespace(ID, 3), true, &second, false),
        (of_namespace(OTHER, 2), true, &second, false),
        (of_namespace(ID, 0), false, &Settings::default(), false),
        (of_group(ID, false), true, &grouped, true),
        (of_group(OTHER, false), true, &grouped, false),
        (of_group(OTHER, true), true, &grouped, false),
        (of_group(OTHER, true), true, &Settings::default(), true),
        (of_group(OTHER, false), true, &Settings::default(), false),
        (of_group(OTHER, true), false, &Settings::default(), false),
    ] {
        let guard = Guard {
            token: Some(token),
            ..Guard::default()
        };
        let expected = if fits { None } else { UNAUTHENTICATED };
        assert_eq!(
            refusals(Some(&guard), exists, settings),
            [expected; 4],
            "{token:?} {settings:?}"
        );
    }
}

#[test]
fn requests_come_from_allowed_networks() {
    let allowed = settings(|s| {
        s.allowed_ips = ["10.0.0.0/8", "2001:db8::/32"]
            .iter()
            .map(|n| n.parse().expect("a network"))
            .collect();
    });
    for (ip, passes) in [
        ("10.255.0.1", true),
        ("::ffff:10.1.2.3", true),
        ("11.0.0.1", false),
        ("::ffff:11.1.2.3", false),
        ("2001:db8:1::1", true),
        ("2001:db9::1", false),
    ] {
        let guard = Guard {
            ip: Some(ip.parse().expect("an address")),
            ..Guard::default()
        };
        let expected = if passes { None } else { FORBIDDEN };
        assert_eq!(refusals(Some(&guard), true, &allowed), [expected; 4], "{ip}");
        assert_eq!(refusals(Some(&guard), true, &Settings::default()), [None; 4]);
    }
    assert_eq!(
        refusals(Some(&Guard::default()), true, &allowed),
        [FORBIDDEN; 4],
        "from anywhere"
    );
    assert_eq!(refusals(None, true, &allowed), [None; 4], "our own work");
}

#[test]
fn blocks_say_what_they_block_and_can_be_lifted() {
    let reads = settings(|s| s.block_reads = true);
    let writes = settings(|s| s.block_writes = true);
    assert_eq!(refusals(None, true, &reads), [READS, READS, None, None]);
    assert_eq!(refusals(None, true, &writes), [None, None, WRITES, None]);
    for (blocked, expected) in [
        ((true, false), [READS, READS, None, None]),
        ((false, true), [None, None, WRITES, None]),
        ((true, true), [READS, READS, WRITES, None]),
    ] {
        let guard = Guard {
            blocked: Blocked {
                reads: blocked.0,
                writes: blocked.1,
            },
            ..Guard::default()
        };
        assert_eq!(refusals(Some(&guard), true, &Settings::default()), expected);
    }
}

#[test]
fn what_is_restricted_can_only_search() {
    let guard = Guard {
        restriction: Some(Arc::default()),
        ..Guard::default()
    };
    for exists in [true, false] {
        assert_eq!(
            refusals(Some(&guard), exists, &Settings::default()),
            [None, FORBIDDEN, FORBIDDEN, FORBIDDEN]
        );
    }
}

#[test]
fn excluded_patterns_and_objects_hide_what_they_mean() {
    for (excluded, hidden, seen) in [
        (
            "secret",
            vec!["secret", "secret.a", "secret.a.b"],
            vec!["secrets", "a.secret", "secre"],
        ),
        ("secret_*", vec!["secret_", "secret_a"], vec!["secret", "a_secret_"]),
        ("*", vec!["a", "id"], vec![]),
        ("*_pii", vec!["a_pii", "_pii"], vec!["a_piix", "pii"]),
        ("a*b*c", vec!["abc", "axbxc", "abbc"], vec!["ab", "acb", "abcx"]),
        ("a*a", vec!["aa", "aba"], vec!["a"]),
    ] {
        let restriction = Restriction {
            exclude: vec![excluded.to_owned()],
            ..Restriction::default()
        };
        for name in hidden {
            assert!(restriction.hides(name), "{excluded} hides {name}");
        }
        for name in seen {
            assert!(!restriction.hides(name), "{excluded} shows {name}");
        }
        assert_eq!(restriction.hides_id(), excluded == "*", "{excluded}");
    }
}

#[test]
fn hidden_attributes_are_excluded_or_not_included() {
    let names = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    for (include, exclude, hidden, hides_id) in [
        (None, vec![], vec![], false),
        (None, names(&["a"]), vec!["a"], false),
        (Some(names(&["a", "b"])), names(&["b"]), vec!["b", "c"], false),
        (Some(vec![]), vec![], vec!["a", "b", "c"], false),
        (Some(names(&["a"])), names(&["id"]), vec!["b", "c"], true),
    ] {
        let restriction = Restriction {
            include,
            exclude,
            ..Restriction::default()
        };
        let found: Vec<&str> = ["a", "b", "c"].into_iter().filter(|n| restriction.hides(n)).collect();
        assert_eq!((found, restriction.hides_id()), (hidden, hides_id), "{restriction:?}");
    }
}

#[test]
fn a_filter_is_mandatory_as_it_is() {
    let filter = Filter::compare("tenant", FilterOp::Eq, json!(7));
    let mandatory: Arc<dyn MandatoryFilter> = Arc::new(filter.clone());
    assert_eq!(mandatory.compile(&Schema::default()), Ok(filter));
}
