//! Descriptions of the routes of users, platform tokens, organizations and members.

use schemars::SchemaGenerator;
use serde_json::{Value as Json, json};

use super::parts::{flag, list, text, with};
use super::{Operation, Tag};
use crate::api::platform::auth::{Login, PlatformTokenOptions};
use crate::api::platform::issuers::IssuerOptions;
use crate::api::platform::login::PageOptions;
use crate::api::platform::members::{NewInvite, NewMember, RoleChange};
use crate::api::platform::organizations::{CreateOptions, NewOrganization, OrganizationChange, SubscriptionChange};
use crate::api::platform::users::{NewUserBody, UserChange};

const FAILS: &[u16] = &[400, 401, 402, 403, 404, 408, 409, 413, 415, 429, 500, 503];

/// A new token; its value is missing where the request was carried out before.
fn with_secret(field: &str) -> Json {
    let mut token = with(&[("id", text()), ("name", text())]);
    token["properties"][field] = text();
    token
}

fn number() -> Json {
    json!({"type": "integer"})
}

fn role() -> Json {
    json!({"enum": ["owner", "admin", "member", "viewer"]})
}

fn answer(what: &str, schema: Json) -> Json {
    json!({
        "description": what,
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
        "content": {"application/json": {"schema": schema}},
    })
}

fn empty() -> Json {
    with(&[])
}

fn user() -> Json {
    with(&[(
        "user",
        with(&[
            ("username", text()),
            ("name", text()),
            ("email", text()),
            ("avatarUrl", text()),
            ("plan", text()),
            ("mfa", flag()),
            ("has_pending_invites", flag()),
            (
                "pending_invites",
                json!({"type": "object", "additionalProperties": role()}),
            ),
        ]),
    )])
}

fn organization() -> Json {
    with(&[
        ("id", text()),
        ("name", text()),
        ("slug", text()),
        ("type", json!({"enum": ["personal", "team"]})),
        ("overages", flag()),
        ("require_mfa", flag()),
        ("blocked_reads", flag()),
        ("blocked_writes", flag()),
        ("plan_id", text()),
        ("plan_timeline", text()),
        ("platform", text()),
    ])
}

fn tokens() -> Json {
    with(&[(
        "tokens",
        list(with(&[("id", text()), ("name", text()), ("created_at", text())])),
    )])
}

fn plans_of() -> Json {
    let quotas = json!({"type": "object", "additionalProperties": {"type": ["integer", "null"]}});
    with(&[(
        "plans",
        list(with(&[("name", text()), ("price", text()), ("quotas", quotas)])),
    )])
}

fn subscribed() -> Json {
    with(&[(
        "subscription",
        with(&[
            ("name", text()),
            ("plan", text()),
            ("timeline", text()),
            ("overages", flag()),
        ]),
    )])
}

fn billed() -> Json {
    with(&[("invoices", list(json!({"type": "object"})))])
}

fn member() -> Json {
    with(&[("username", text()), ("role", role()), ("email", text())])
}

fn added() -> Json {
    with(&[("member", text()), ("role", role())])
}

fn invites() -> Json {
    let invite = [
        ("id", number()),
        ("email", text()),
        ("role", role()),
        ("created_at", text()),
    ];
    with(&[("invites", list(with(&invite)))])
}

fn invited() -> Json {
    let invited = [("email", text()), ("role", role()), ("organization", text())];
    with(&[("invited", with(&invited))])
}

fn issuers() -> Json {
    with(&[("jwks", list(with(&[("jwks_name", text()), ("jwks_url", text())])))])
}

macro_rules! operations {
    ($($name:ident $id:literal $summary:literal, $what:literal $answer:expr $(, takes $body:ty)? $(, asks $query:ty)?;)*) => {
        $(pub fn $name(g: &mut SchemaGenerator) -> Operation {
            let _: &SchemaGenerator = g;
            let operation = Operation::new($id, Tag::Platform, $summary).answers_with(200, answer($what, $answer));
            $(let operation = operation.takes::<$body>(g);)?
            $(let operation = operation.asks::<$query>(g);)?
            operation.fails(FAILS)
        })*
    };
}

operations! {
    login "login" "Signs a user in for seven days; no key is needed", "A session." with(&[("token", text()), ("exp", number())]), takes Login;
    validate "validateToken" "Says until when the caller's token counts; -1: until it is revoked", "It counts." with(&[("exp", number())]);
    validate_token "validateApiToken" "Says until when the caller's token counts; -1: until it is revoked", "It counts." with(&[("exp", number())]);
    invalidate "endSessions" "Ends every session of the caller", "From when on sessions count." with(&[("ValidFrom", number())]);
    create_user "createUser" "Makes a user; with the operator's key", "The user." user(), takes NewUserBody;
    get_user "getUser" "Shows a user to the operator or the user", "The user." user();
    change_user "changeUser" "Changes a user's password or full name", "The user." user(), takes UserChange;
    delete_user "deleteUser" "Deletes a user with all tokens and memberships; with the operator's key", "Who is gone." with(&[("user", text())]);
    own_user "ownUser" "Shows the user behind the caller's token", "The user." user();
    current_user "currentUser" "Shows the user behind the caller's token", "The user." user();
    list_tokens "listPlatformTokens" "Lists the caller's platform tokens, without their values", "The tokens." tokens();
    mint_reserved "createReservedToken" "Refuses: no token can be named validate", "Never." empty();
    mint_token_v1 "createPlatformToken" "Makes a platform token; the value is shown once", "The token." with_secret("token"), takes PlatformTokenOptions;
    mint_token_v2 "createPlatformTokenV2" "Makes a platform token, answered in the shape of v2", "The token." with(&[("token", with_secret("value"))]), takes PlatformTokenOptions;
    revoke_token "revokePlatformToken" "Revokes one of the caller's platform tokens", "Its name." with(&[("token", text())]);
    list_org_tokens "listOrganizationTokens" "Lists the platform tokens of an organization: admins see all, others their own", "The tokens." tokens();
    revoke_org_token "revokeOrganizationToken" "Revokes a platform token of an organization by its id", "Its id." with(&[("token", text())]);
    list_organizations_v1 "listOrganizations" "Lists the caller's organizations", "The organizations." with(&[("organizations", list(organization()))]);
    list_organizations_v2 "listOrganizationsV2" "Lists the caller's organizations", "The organizations." with(&[("organizations", list(organization()))]);
    create_organization "createOrganization" "Makes an organization; its maker is the owner", "The organization." with(&[("org", organization())]), takes NewOrganization, asks CreateOptions;
    get_organization "getOrganization" "Shows an organization", "The organization." with(&[("organization", organization())]);
    change_organization "changeOrganization" "Changes an organization", "The organization." with(&[("organization", organization())]), takes OrganizationChange;
    delete_organization "deleteOrganization" "Deletes an empty organization; its slug is never used again", "It is gone." empty();
    org_plans "organizationPlans" "Lists the plans of the deployment", "The plans." plans_of();
    plans "plans" "Lists the plans of the deployment", "The plans." plans_of();
    org_subscription "organizationSubscription" "Shows the plan of an organization", "The plan." subscribed();
    subscription "subscription" "Shows the plan of the caller's own organization", "The plan." subscribed();
    change_org_subscription "changeOrganizationSubscription" "Changes the plan of an organization; for owners", "The plan." subscribed(), takes SubscriptionChange;
    change_subscription "changeSubscription" "Changes the plan of the caller's own organization; for owners", "The plan." subscribed(), takes SubscriptionChange;
    org_invoices "organizationInvoices" "Lists no invoices: nobody is billed", "None." billed();
    invoices "invoices" "Lists no invoices: nobody is billed", "None." billed();
    org_locations "organizationLocations" "Lists the locations of the deployment by provider", "The locations." with(&[("locations", json!({"type": "object"}))]);
    list_members "listMembers" "Lists the members of an organization", "The members." with(&[("members", list(member()))]);
    add_member "addMember" "Makes a user a member", "The member." added(), takes NewMember;
    get_member "getMember" "Shows a member", "The member." with(&[("member", member())]);
    add_member_by_path "addMemberByPath" "Makes the user in the path a member", "The member." added(), takes NewMember;
    change_member "changeMember" "Gives a member another role", "The member." with(&[("member", member())]), takes RoleChange;
    remove_member "removeMember" "Ends a membership; members may end their own", "Who is no member any more." with(&[("member", text())]);
    list_invites_v1 "listInvites" "Lists the open invitations", "The invitations." invites();
    list_invites_v2 "listInvitesV2" "Lists the open invitations", "The invitations." invites();
    invite_singular "inviteSingular" "Invites an e-mail address", "The invitation." invited(), takes NewInvite;
    invite_v1 "invite" "Invites an e-mail address", "The invitation." invited(), takes NewInvite;
    invite_v2 "inviteV2" "Invites an e-mail address", "The invitation." invited(), takes NewInvite;
    delete_invite_v1 "deleteInvite" "Takes an invitation back", "It is gone." empty();
    delete_invite_v2 "deleteInviteV2" "Takes an invitation back", "It is gone." empty();
    accept_invite "acceptInvite" "Makes the caller a member, if an invitation for the caller's e-mail address is open", "The member." added();
    list_issuers "listIssuers" "Lists the external issuers of tokens", "The issuers." issuers();
    get_issuer "getIssuer" "Shows an external issuer", "The issuer." issuers();
    put_issuer "putIssuer" "Keeps an external issuer; tokens of it are not honoured yet", "The issuer." issuers(), takes IssuerOptions;
    delete_issuer "deleteIssuer" "Forgets an external issuer", "It is gone." empty();
    issuer_template "issuerTemplate" "Shows the claims that tokens of external issuers will need", "The claims." with(&[("template", json!({"type": "object"}))]);
}

/// Routes of an organization once more, without it in the path: the caller's own is meant.
macro_rules! of_own {
    ($($name:ident of $of:ident $id:literal;)*) => {
        $(pub fn $name(g: &mut SchemaGenerator) -> Operation {
            $of(g).with_id($id)
        })*
    };
}

of_own! {
    own_locations of org_locations "locationsByProvider";
    list_own_org_tokens of list_org_tokens "listOwnOrganizationTokens";
    revoke_own_org_token of revoke_org_token "revokeOwnOrganizationToken";
    list_own_members of list_members "listOwnMembers";
    add_own_member of add_member "addOwnMember";
    get_own_member of get_member "getOwnMember";
    add_own_member_by_path of add_member_by_path "addOwnMemberByPath";
    change_own_member of change_member "changeOwnMember";
    remove_own_member of remove_member "removeOwnMember";
    list_own_invites_v1 of list_invites_v1 "listOwnInvites";
    list_own_invites_v2 of list_invites_v2 "listOwnInvitesV2";
    own_invite_singular of invite_singular "inviteToOwnSingular";
    own_invite_v1 of invite_v1 "inviteToOwn";
    own_invite_v2 of invite_v2 "inviteToOwnV2";
    delete_own_invite_v1 of delete_invite_v1 "deleteOwnInvite";
    delete_own_invite_v2 of delete_invite_v2 "deleteOwnInviteV2";
    list_own_issuers of list_issuers "listOwnIssuers";
    get_own_issuer of get_issuer "getOwnIssuer";
    put_own_issuer of put_issuer "putOwnIssuer";
    delete_own_issuer of delete_issuer "deleteOwnIssuer";
    own_issuer_template of issuer_template "ownIssuerTemplate";
}

fn html(description: &str) -> Json {
    json!({"description": description, "content": {"text/html": {"schema": text()}}})
}

fn page(g: &mut SchemaGenerator, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(id, Tag::Operations, summary)
        .answers_with(200, html("A page with a form."))
        .answers_with(400, html("A page that says what is wrong with the address."))
        .asks::<PageOptions>(g)
}

pub fn page_of_root(g: &mut SchemaGenerator) -> Operation {
    page(g, "signInAtRoot", "A page to sign in on")
}

pub fn page_of_login(g: &mut SchemaGenerator) -> Operation {
    page(g, "signInPage", "A page to sign in on")
}

pub fn page_of_signup(g: &mut SchemaGenerator) -> Operation {
    page(g, "signUpPage", "The same page: accounts are made by the operator")
}

pub fn submit(_: &mut SchemaGenerator) -> Operation {
    let there = json!({"description": "To the waiting client, with `jwt` and `state` in the query string."});
    let submitted = Operation::new(
        "submitSignIn",
        Tag::Platform,
        "Takes the form of the sign-in page; no key is needed",
    )
    .answers_with(200, html("A page with the token."))
    .answers_with(303, there);
    [400, 401, 413, 429, 500, 503]
        .into_iter()
        .fold(submitted, |operation, status| {
            operation.answers_with(status, html("The form once more, with what went wrong."))
        })
}

pub fn key_set(_: &mut SchemaGenerator) -> Operation {
    let keys = with(&[("keys", list(json!({"type": "object"})))]);
    Operation::new(
        "keySet",
        Tag::Operations,
        "The public keys of platform and user tokens (RFC 7517)",
    )
    .answers_with(200, answer("The keys.", keys))
}
