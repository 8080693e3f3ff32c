"""The limit on orders of reports, by the API and by the page together."""

from app.web.limits.declare import rate_limit
from app.web.limits.subjects import by_principal

limit_orders = rate_limit("5/hour", key=by_principal, scope="reports")
