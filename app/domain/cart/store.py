"""The SQL of carts."""

from sqlalchemy import select

from app.db.database import ReadSession, WriteSession
from app.domain.cart.models import Cart
from app.domain.users.models import User


async def get_cart(session: ReadSession, user_id: int) -> Cart | None:
    return await session.get(Cart, user_id)


async def get_cart_for_update(session: WriteSession, user_id: int) -> Cart | None:
    """The account's cart, a new one where it had none; None without the account.

    Locks the row of the user until this transaction ends: there may be no cart yet that could be locked.
    """
    user = select(User.id).where(User.id == user_id).with_for_update()
    if await session.scalar(user) is None:
        return None
    cart = await session.get(Cart, user_id)
    if cart is None:
        cart = Cart(user_id=user_id, items={}, merged=None)
        session.add(cart)
    return cart
