"""Each POST by which a principal makes something takes an Idempotency-Key."""

from quart import Quart

from app.web.route_policy import compile_routes

# What a repeat of these makes is a secret, which is not kept, or is not made a second time.
WITHOUT = {
    "users.create_api_key",
    "users.sign_in.logout",
    "users.sign_in.logout_all",
    "messages.mark_read",
    "operations.requeue_all",
    "operations.purge_all",
    "operations.requeue",
    "operations.purge",
}


def test_each_creating_post_of_a_principal_takes_a_key(app: Quart) -> None:
    routes = compile_routes(app)
    found = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if "POST" in (rule.methods or ()) and not rule.endpoint.startswith("notices.")
    }
    policies = {endpoint: routes[endpoint].by_method.get("POST", routes[endpoint].policy) for endpoint in found}
    assert {each for each, policy in policies.items() if policy.access and not policy.is_idempotent} <= WITHOUT
