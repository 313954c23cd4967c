//! The routes of groups, databases, instances and locations: with the organization in the path, without it for the
//! caller's own, and by ids below `/v3`.

use super::{databases, figures, groups, instances, locations};
use crate::api::needs::{KNOWN_USER, platform, platform_in_group};
use crate::api::openapi::operations_databases::{self as described, BY_ID, IN_ORG, OWN};
use crate::api::{Route, route};
use crate::control::Action;
use axum::http::Method;

/// Each line twice: with `{org}` in the path, and without.
macro_rules! in_both {
    ($($method:ident $path:literal $needs:expr, $handler:path, $described:ident;)*) => {
        vec![$(
            route(Method::$method, concat!("/v1/organizations/{org}", $path), $needs, $handler, described::$described::<IN_ORG>),
            route(Method::$method, concat!("/v1", $path), $needs, $handler, described::$described::<OWN>),
        )*]
    };
}

/// Each line below `/v3`.
macro_rules! by_id {
    ($($method:ident $path:literal $needs:expr, $handler:path, $described:ident;)*) => {
        vec![$(
            route(Method::$method, concat!("/v3/organizations/{org}", $path), $needs, $handler, described::$described::<BY_ID>),
        )*]
    };
}

/// Every one of them.
#[rustfmt::skip]
pub fn routes() -> Vec<Route> {
    use Action::{
        CollectionsCreate, CollectionsDelete, CollectionsGet, CollectionsList, CollectionsUpdate, GroupsCreate,
        GroupsDelete, GroupsGet, GroupsList, GroupsUpdate, TokensCreate, TokensRotate, UsageGet,
    };
    const SEE_GROUPS: &[Action] = &[GroupsList, CollectionsList];
    const SEE_GROUP: &[Action] = &[GroupsGet, CollectionsGet];
    let mut all = vec![
        route(Method::GET, "/v1/locations", KNOWN_USER, locations::list, described::list_locations::<IN_ORG>),
        route(Method::GET, "/v1/locations/{location}", KNOWN_USER, locations::get, described::get_location::<IN_ORG>),
    ];
    all.extend(in_both! {
        GET "/groups" platform_in_group(SEE_GROUPS), groups::list, list_groups;
        POST "/groups" platform(&[GroupsCreate]), groups::create, create_group;
        GET "/groups/{group}" platform_in_group(SEE_GROUP), groups::get, get_group;
        DELETE "/groups/{group}" platform(&[GroupsDelete]), groups::delete, delete_group;
        GET "/groups/{group}/configuration" platform_in_group(SEE_GROUP), groups::configuration, group_configuration;
        PATCH "/groups/{group}/configuration" platform_in_group(&[GroupsUpdate]), groups::configure, configure_group;
        POST "/groups/{group}/locations/{location}" platform_in_group(&[GroupsUpdate]), groups::add_location, add_location;
        DELETE "/groups/{group}/locations/{location}" platform_in_group(&[GroupsUpdate]), groups::remove_location, remove_location;
        GET "/groups/{group}/locations/{location}/wait" platform_in_group(SEE_GROUP), groups::wait, wait_for_location;
        POST "/groups/{group}/auth/tokens" platform_in_group(&[TokensCreate]), groups::create_token, create_group_token;
        POST "/groups/{group}/auth/rotate" platform_in_group(&[TokensRotate]), groups::rotate, rotate_group_tokens;
        POST "/groups/{group}/transfer" platform(&[GroupsDelete]), groups::transfer, transfer_group;
        POST "/groups/{group}/unarchive" platform_in_group(&[GroupsUpdate]), groups::unarchive, unarchive_group;
        POST "/groups/{group}/update" platform_in_group(&[GroupsUpdate]), groups::update, update_group;
        POST "/groups/{group}/rename" platform_in_group(&[GroupsUpdate]), groups::rename, rename_group;
        GET "/databases" platform_in_group(&[CollectionsList]), databases::list, list_databases;
        POST "/databases" platform_in_group(&[CollectionsCreate]), databases::create, create_database;
        GET "/databases/{database}" platform_in_group(&[CollectionsGet]), databases::get, get_database;
        POST "/databases/{database}" platform_in_group(&[CollectionsCreate]), databases::dump, dump_database;
        DELETE "/databases/{database}" platform_in_group(&[CollectionsDelete]), databases::delete, delete_database;
        GET "/databases/{database}/configuration" platform_in_group(&[CollectionsGet]), databases::configuration, database_configuration;
        PATCH "/databases/{database}/configuration" platform_in_group(&[CollectionsUpdate]), databases::configure, configure_database;
        GET "/databases/{database}/instances" platform_in_group(&[CollectionsGet]), instances::list, list_instances;
        POST "/databases/{database}/instances" platform_in_group(&[CollectionsUpdate]), instances::create, create_instance;
        GET "/databases/{database}/instances/{instance}" platform_in_group(&[CollectionsGet]), instances::get, get_instance;
        DELETE "/databases/{database}/instances/{instance}" platform_in_group(&[CollectionsUpdate]), instances::delete, delete_instance;
        GET "/databases/{database}/instances/{instance}/wait" platform_in_group(&[CollectionsGet]), instances::wait, wait_for_instance;
        POST "/databases/{database}/auth/tokens" platform_in_group(&[TokensCreate]), databases::create_token, create_database_token;
        POST "/databases/{database}/auth/rotate" platform_in_group(&[TokensRotate]), databases::rotate, rotate_database_tokens;
        GET "/databases/{database}/usage" platform_in_group(&[UsageGet]), figures::usage, database_usage;
        GET "/databases/{database}/usage/queries" platform_in_group(&[UsageGet]), figures::top_queries, top_queries;
        GET "/databases/{database}/stats" platform_in_group(&[UsageGet]), figures::stats, database_stats;
        POST "/databases/{database}/update" platform_in_group(&[CollectionsUpdate]), databases::update, update_database;
        POST "/databases/{database}/wakeup" platform_in_group(&[CollectionsUpdate]), databases::wake, wake_database;
        POST "/databases/{database}/transfer" platform_in_group(&[CollectionsUpdate]), databases::transfer, transfer_database;
        POST "/databases/{database}/seed" platform_in_group(&[CollectionsCreate]), databases::upload, upload_database;
    });
    all.extend(by_id! {
        GET "/groups" platform_in_group(SEE_GROUPS), groups::list, list_groups;
        POST "/groups" platform(&[GroupsCreate]), groups::create, create_group;
        GET "/groups/{group}" platform_in_group(SEE_GROUP), groups::get, get_group;
        DELETE "/groups/{group}" platform(&[GroupsDelete]), groups::delete, delete_group;
        POST "/groups/{group}/auth/tokens" platform_in_group(&[TokensCreate]), groups::create_token, create_group_token;
        POST "/groups/{group}/auth/rotate" platform_in_group(&[TokensRotate]), groups::rotate, rotate_group_tokens;
        GET "/databases" platform_in_group(&[CollectionsList]), databases::list, list_databases;
        POST "/databases" platform_in_group(&[CollectionsCreate]), databases::create, create_database;
        GET "/databases/{database}" platform_in_group(&[CollectionsGet]), databases::get, get_database;
        PATCH "/databases/{database}" platform_in_group(&[CollectionsUpdate]), databases::configure_by_id, configure_database_by_id;
        DELETE "/databases/{database}" platform_in_group(&[CollectionsDelete]), databases::delete, delete_database;
        GET "/databases/{database}/instances" platform_in_group(&[CollectionsGet]), instances::list, list_instances;
        GET "/databases/{database}/instances/{instance}" platform_in_group(&[CollectionsGet]), instances::get, get_instance;
        POST "/databases/{database}/auth/tokens" platform_in_group(&[TokensCreate]), databases::create_token, create_database_token;
        POST "/databases/{database}/auth/rotate" platform_in_group(&[TokensRotate]), databases::rotate, rotate_database_tokens;
        GET "/databases/{database}/usage" platform_in_group(&[UsageGet]), figures::usage, database_usage;
        POST "/databases/{database}/update" platform_in_group(&[CollectionsUpdate]), databases::update, update_database;
    });
    all
}
