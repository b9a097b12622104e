"""Messages through Apprise: mail, chat and web hooks by address (H8). The library is loaded when it is first used."""

from __future__ import annotations

from urllib.parse import urlsplit

from contracts.ports import MessageUnsent


def check_address(address: str) -> None:
    """Raise ``ValueError``, naming only the scheme (the rest may be secret), for an address Apprise does not know."""
    from apprise import Apprise

    if not Apprise().add(address):
        raise ValueError(f"{_scheme(address)}://… is no address that messages can be sent to")


class AppriseMessenger:
    """Sends through Apprise, which knows more than a hundred services; its calls run in threads of their own."""

    async def send(self, address: str, title: str, body: str) -> None:
        """Send to one address; raises :class:`MessageUnsent`."""
        from apprise import Apprise, NotifyFormat

        service = Apprise()
        if not service.add(address) or not await service.async_notify(
            body=body, title=title, body_format=NotifyFormat.TEXT
        ):
            raise MessageUnsent(f"Not taken by {_scheme(address)}://….")


def _scheme(address: str) -> str:
    return urlsplit(address).scheme or "?"
