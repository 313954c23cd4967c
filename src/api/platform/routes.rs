//! The routes of users, tokens, organizations and members; what is an organization's also without it in the path, for
//! the caller's own.

use axum::http::Method;

use super::{auth, issuers, locations, login, members, organizations, users};
use crate::api::needs::{KNOWN_USER, OPEN, platform};
use crate::api::openapi::operations_platform as described;
use crate::api::{Route, route};
use crate::control::Action::{
    MembersCreate, MembersDelete, MembersList, MembersUpdate, OrganizationsDelete, OrganizationsGet,
    OrganizationsUpdate, TokensList,
};

/// Every one of them.
#[rustfmt::skip]
pub fn routes() -> Vec<Route> {
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PUT: Method = Method::PUT;
    const PATCH: Method = Method::PATCH;
    const DELETE: Method = Method::DELETE;
    vec![
        // Signing in.
        route(GET, "/", OPEN, login::show, described::page_of_root),
        route(GET, "/login", OPEN, login::show, described::page_of_login),
        route(GET, "/signup", OPEN, login::show, described::page_of_signup),
        route(POST, "/login", OPEN, login::submit, described::submit),
        route(GET, "/.well-known/jwks.json", OPEN, auth::key_set, described::key_set),
        route(POST, "/v1/auth/login", OPEN, auth::login, described::login),
        route(GET, "/v1/auth/validate", KNOWN_USER, auth::validate, described::validate),
        route(GET, "/v1/auth/api-tokens/validate", KNOWN_USER, auth::validate, described::validate_token),
        route(POST, "/v1/auth/invalidate", KNOWN_USER, users::invalidate, described::invalidate),
        // Users.
        route(POST, "/v1/users", KNOWN_USER, users::create, described::create_user),
        route(GET, "/v1/users/{username}", KNOWN_USER, users::get, described::get_user),
        route(PATCH, "/v1/users/{username}", KNOWN_USER, users::change, described::change_user),
        route(DELETE, "/v1/users/{username}", KNOWN_USER, users::delete, described::delete_user),
        route(GET, "/v1/user", KNOWN_USER, users::current, described::own_user),
        route(GET, "/v1/current-user", KNOWN_USER, users::current, described::current_user),
        // Platform tokens. The name `validate` is a path of its own and cannot be had.
        route(GET, "/v1/auth/api-tokens", KNOWN_USER, auth::list, described::list_tokens),
        route(POST, "/v1/auth/api-tokens/validate", KNOWN_USER, auth::mint_reserved, described::mint_reserved),
        route(POST, "/v1/auth/api-tokens/{token}", KNOWN_USER, auth::mint_v1, described::mint_token_v1),
        route(POST, "/v2/auth/api-tokens/{token}", KNOWN_USER, auth::mint_v2, described::mint_token_v2),
        route(DELETE, "/v1/auth/api-tokens/{token}", KNOWN_USER, auth::revoke, described::revoke_token),
        route(GET, "/v1/organizations/{org}/api-tokens", platform(&[TokensList]), auth::list_of_org, described::list_org_tokens),
        route(GET, "/v1/api-tokens", platform(&[TokensList]), auth::list_of_org, described::list_own_org_tokens),
        route(DELETE, "/v1/organizations/{org}/api-tokens/{token}", platform(&[TokensList]), auth::revoke_of_org, described::revoke_org_token),
        route(DELETE, "/v1/api-tokens/{token}", platform(&[TokensList]), auth::revoke_of_org, described::revoke_own_org_token),
        // Organizations.
        route(GET, "/v1/organizations", KNOWN_USER, organizations::list, described::list_organizations_v1),
        route(GET, "/v2/organizations", KNOWN_USER, organizations::list, described::list_organizations_v2),
        route(POST, "/v1/organizations", KNOWN_USER, organizations::create, described::create_organization),
        route(GET, "/v1/organizations/{org}", platform(&[OrganizationsGet]), organizations::get, described::get_organization),
        route(PATCH, "/v1/organizations/{org}", platform(&[OrganizationsUpdate]), organizations::change, described::change_organization),
        route(DELETE, "/v1/organizations/{org}", platform(&[OrganizationsDelete]), organizations::delete, described::delete_organization),
        route(GET, "/v1/organizations/{org}/plans", platform(&[OrganizationsGet]), organizations::plans, described::org_plans),
        route(GET, "/v1/plans", KNOWN_USER, organizations::plans, described::plans),
        route(GET, "/v1/organizations/{org}/subscription", platform(&[OrganizationsGet]), organizations::subscription, described::org_subscription),
        route(GET, "/v1/subscription", platform(&[OrganizationsGet]), organizations::subscription, described::subscription),
        route(POST, "/v1/organizations/{org}/subscription", platform(&[OrganizationsUpdate]), organizations::subscribe, described::change_org_subscription),
        route(POST, "/v1/subscription", platform(&[OrganizationsUpdate]), organizations::subscribe, described::change_subscription),
        route(GET, "/v1/organizations/{org}/invoices", platform(&[OrganizationsGet]), organizations::invoices, described::org_invoices),
        route(GET, "/v1/invoices", platform(&[OrganizationsGet]), organizations::invoices, described::invoices),
        route(GET, "/v2/organizations/{org}/locations", platform(&[OrganizationsGet]), locations::list_by_provider, described::org_locations),
        route(GET, "/v2/locations", platform(&[OrganizationsGet]), locations::list_by_provider, described::own_locations),
        // Members and invitations.
        route(GET, "/v1/organizations/{org}/members", platform(&[MembersList]), members::list, described::list_members),
        route(GET, "/v1/members", platform(&[MembersList]), members::list, described::list_own_members),
        route(POST, "/v1/organizations/{org}/members", platform(&[MembersCreate]), members::add, described::add_member),
        route(POST, "/v1/members", platform(&[MembersCreate]), members::add, described::add_own_member),
        route(GET, "/v1/organizations/{org}/members/{username}", platform(&[MembersList]), members::get, described::get_member),
        route(GET, "/v1/members/{username}", platform(&[MembersList]), members::get, described::get_own_member),
        route(POST, "/v1/organizations/{org}/members/{username}", platform(&[MembersCreate]), members::add_by_path, described::add_member_by_path),
        route(POST, "/v1/members/{username}", platform(&[MembersCreate]), members::add_by_path, described::add_own_member_by_path),
        route(PATCH, "/v1/organizations/{org}/members/{username}", platform(&[MembersUpdate]), members::change, described::change_member),
        route(PATCH, "/v1/members/{username}", platform(&[MembersUpdate]), members::change, described::change_own_member),
        // Whoever leaves needs no right; the handler asks for it otherwise.
        route(DELETE, "/v1/organizations/{org}/members/{username}", platform(&[]), members::remove, described::remove_member),
        route(DELETE, "/v1/members/{username}", platform(&[]), members::remove, described::remove_own_member),
        route(GET, "/v1/organizations/{org}/invites", platform(&[MembersList]), members::invites, described::list_invites_v1),
        route(GET, "/v1/invites", platform(&[MembersList]), members::invites, described::list_own_invites_v1),
        route(GET, "/v2/organizations/{org}/invites", platform(&[MembersList]), members::invites, described::list_invites_v2),
        route(GET, "/v2/invites", platform(&[MembersList]), members::invites, described::list_own_invites_v2),
        route(POST, "/v1/organizations/{org}/invite", platform(&[MembersCreate]), members::invite, described::invite_singular),
        route(POST, "/v1/invite", platform(&[MembersCreate]), members::invite, described::own_invite_singular),
        route(POST, "/v1/organizations/{org}/invites", platform(&[MembersCreate]), members::invite, described::invite_v1),
        route(POST, "/v1/invites", platform(&[MembersCreate]), members::invite, described::own_invite_v1),
        route(POST, "/v2/organizations/{org}/invites", platform(&[MembersCreate]), members::invite, described::invite_v2),
        route(POST, "/v2/invites", platform(&[MembersCreate]), members::invite, described::own_invite_v2),
        route(DELETE, "/v1/organizations/{org}/invites/{email}", platform(&[MembersDelete]), members::uninvite, described::delete_invite_v1),
        route(DELETE, "/v1/invites/{email}", platform(&[MembersDelete]), members::uninvite, described::delete_own_invite_v1),
        route(DELETE, "/v2/organizations/{org}/invites/{email}", platform(&[MembersDelete]), members::uninvite, described::delete_invite_v2),
        route(DELETE, "/v2/invites/{email}", platform(&[MembersDelete]), members::uninvite, described::delete_own_invite_v2),
        route(POST, "/v1/organizations/{org}/invites/accept", KNOWN_USER, members::accept, described::accept_invite),
        // External issuers.
        route(GET, "/v2/organizations/{org}/jwks", platform(&[OrganizationsGet]), issuers::list, described::list_issuers),
        route(GET, "/v2/jwks", platform(&[OrganizationsGet]), issuers::list, described::list_own_issuers),
        route(GET, "/v2/organizations/{org}/jwks/{issuer}", platform(&[OrganizationsGet]), issuers::get, described::get_issuer),
        route(GET, "/v2/jwks/{issuer}", platform(&[OrganizationsGet]), issuers::get, described::get_own_issuer),
        route(PUT, "/v2/organizations/{org}/jwks/{issuer}", platform(&[OrganizationsUpdate]), issuers::put, described::put_issuer),
        route(PUT, "/v2/jwks/{issuer}", platform(&[OrganizationsUpdate]), issuers::put, described::put_own_issuer),
        route(DELETE, "/v2/organizations/{org}/jwks/{issuer}", platform(&[OrganizationsUpdate]), issuers::remove, described::delete_issuer),
        route(DELETE, "/v2/jwks/{issuer}", platform(&[OrganizationsUpdate]), issuers::remove, described::delete_own_issuer),
        route(GET, "/v2/organizations/{org}/jwks-template", platform(&[OrganizationsGet]), issuers::template, described::issuer_template),
        route(GET, "/v2/jwks-template", platform(&[OrganizationsGet]), issuers::template, described::own_issuer_template),
    ]
}
