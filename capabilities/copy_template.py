"""``copy.template``: posts from a company profile, offline and always the same for the same bundle (wire §6 A).

It says nothing that is not in the bundle: who speaks, what about, for whom, and what the special instructions ask to
dwell on. ``tone`` picks the opening and ``channel`` the layout; words it does not know get the plain ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from minijinja import Environment

from capabilities.authoring import capability
from capabilities.copy_facets import AUDIENCE, CHANNEL, COMPANY_PROFILE, COPY_VARIANTS, TONE
from contracts.capability import Bundle

FUEL: Final = 20_000
MAX_VARIANTS: Final = 1_000
_SHORT: Final = 240

HEADLINES: Final = (
    "{{ name }}: {{ topic }}",
    "{{ topic|capital }} at {{ name }}",
    "{{ topic|capital }}, told to {{ audience or 'you' }}",
    "A note from {{ name }} on {{ topic }}",
    "{{ topic|capital }}: the short version",
    "{{ audience|capital if audience else 'Everyone' }}, let us talk about {{ topic }}",
)
OPENINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "warm": ("Some news we are glad to share.", "Come in, this one is for you.", "Pull up a chair."),
    "formal": ("We have an announcement to make.", "Please take note of the following.", "An update from our side."),
    "playful": ("Guess what?", "Drum roll, please.", "You heard it here first."),
    "bold": ("No small talk today.", "Let us get straight to it.", "Here it is."),
    "plain": ("Here is some news.", "A short update.", "We would like to tell you something."),
}
_TONES: Final[Mapping[str, str]] = {
    "warm": "warm friendly kind caring personal welcoming heartfelt",
    "formal": "formal professional serious corporate polite sober",
    "playful": "playful fun funny cheerful light witty humorous",
    "bold": "bold direct confident strong energetic loud",
}
MIDDLES: Final = (
    "{{ name }}{{ place }} would like to talk about {{ topic }}.",
    "Today {{ name }}{{ place }} wants to tell you about {{ topic }}.",
    "If you care about {{ topic }}, {{ name }}{{ place }} would like to hear from you.",
    "We are {{ name }}{{ place }}, and this post is about {{ topic }}.",
    "There is something to say about {{ topic }}, and {{ name }}{{ place }} wants to say it plainly.",
)
CLOSINGS: Final = (
    "{{ 'We wrote this for ' ~ audience ~ '.' if audience else 'Whoever you are, you are welcome to ask.' }}",
    "{{ audience|capital ~ ', tell us what you think.' if audience else 'Tell us what you think.' }}",
    "Questions are welcome{{ ', especially from ' ~ audience if audience else '' }}.",
    "Know someone{{ ' among ' ~ audience if audience else '' }} who should read this? Pass it on.",
)
CALLS: Final = (
    (r"\b(jobs?|hir\w+|careers?|roles?|vacanc\w+|recruit\w*|apprentice\w*)\b",
     ("See the open roles and apply", "Apply now", "Ask us about working here")),
    (r"\b(events?|webinars?|workshops?|conferences?|meetups?|tastings?)\b",
     ("Save your seat", "Register now", "Put it in your calendar")),
    (r"\b(launch\w*|products?|releases?|features?|menus?|collections?)\b",
     ("Take a closer look", "Try it", "Find out more")),
    (r"\b(sales?|discounts?|offers?|deals?)\b", ("See the offer", "Claim the offer", "Have a look at the offer")),
    ("", ("Get in touch", "Find out more", "Write to us")),
)  # fmt: skip
_BODY: Final = (
    "{{ opening }} {{ middle }}{{ gap }}"
    "{% if about %}{{ about }}{{ gap }}{% endif %}"
    "{% if focus %}{{ focus }}{{ gap }}{% endif %}"
    "{{ closing }}{% if tags %}{{ gap }}{{ tags }}{% endif %}"
)
_TOPIC: Final = re.compile(r"\b(?:on|about|regarding|announcing|for|of)\s+(?P<topic>\S.*)$", re.IGNORECASE | re.DOTALL)
_FOCUS: Final = re.compile(
    r"^(?:please\s+)?(?:(?:one|another|a variant|a post|write|talk|mention|include|focus|say something|add)\b\s*)"
    r"(?:should be\s+)?(?:about|on|around)?\s*(?P<what>\S.*)$",
    re.IGNORECASE | re.DOTALL,
)


@capability(
    "copy.template",
    consumes={"profile": COMPANY_PROFILE, "channel": CHANNEL, "audience?": AUDIENCE, "tone?": TONE},
    produces=COPY_VARIANTS,
    batch=True,
    quality=0.3,
    latency_ms=20,
    description="Writes post variants from templates: offline, free, always the same.",
)
async def copy_template(
    bundle: Bundle, profile: Any, channel: str, audience: str = "", tone: str = "", count: int = 1
) -> list[dict[str, str]]:
    """Return ``count`` variants, each unlike the others; bodies are at least 20 characters long."""
    writer = _Writer(bundle, profile, channel, audience, tone)
    return [writer.variant(number) for number in range(max(1, min(count, MAX_VARIANTS)))]


class _Writer:
    """Everything that the variants of one call share."""

    def __init__(self, bundle: Bundle, profile: Mapping[str, Any], channel: str, audience: str, tone: str) -> None:
        self._environment = Environment(fuel=FUEL, filters={"capital": _capital})
        self._openings = OPENINGS[_tone(tone or str(bundle.directives.get("brand_voice", "")))]
        self._focuses = [_focus(text) for text in bundle.instructions]
        self._channel = channel.strip().lower()
        self._profile = profile
        location = _line(profile.get("location"))
        self._words = {
            "name": _line(profile.get("name")) or "We",
            "place": f" in {location}" if location else "",
            "topic": topic_of(bundle.objective),
            "audience": _line(audience),
        }
        self._calls = _calls(f"{bundle.objective} {' '.join(bundle.instructions)}")

    def variant(self, number: int) -> dict[str, str]:
        """Return variant ``number`` (from 0); the frames repeat together only after 360 variants."""
        headline = self._say(HEADLINES[number % len(HEADLINES)])
        if number >= len(HEADLINES):
            headline += f" ({number // len(HEADLINES) + 1})"
        return {
            "headline": _clip(headline, 150),
            "body": self._body(number),
            "callToAction": self._calls[number % len(self._calls)],
        }

    def _body(self, number: int) -> str:
        short = self._channel in ("x", "twitter", "sms", "bluesky", "mastodon")
        parts = {
            "opening": self._openings[number % len(self._openings)],
            "middle": self._say(MIDDLES[number % len(MIDDLES)]),
            "closing": self._say(CLOSINGS[(number + number // len(MIDDLES)) % len(CLOSINGS)]),
            "about": "" if short else self._about(number),
            "focus": self._focuses[number] if number < len(self._focuses) else "",
            "tags": self._tags() if self._channel in ("linkedin", "instagram", "facebook", "threads") else "",
            "gap": " " if short else "\n\n",
        }
        if short:
            parts["closing"] = ""
        text = self._environment.render_str(_BODY, **parts).strip()
        return _clip(text, _SHORT) if short else text

    def _say(self, template: str) -> str:
        return self._environment.render_str(template, **self._words)

    def _about(self, number: int) -> str:
        """Return what the profile says of itself; with several things to say, another one for each variant."""
        said = [_sentence(_line(self._profile.get(name))) for name in ("description", "tagline")]
        for name, lead in (("products", "What we make"), ("values", "What we stand for")):
            items = [_line(item) for item in self._profile.get(name) or () if _line(item)]
            said.append(f"{lead}: {', '.join(items[:6])}." if items else "")
        given = [text for text in said if text]
        return given[number % len(given)] if given else ""

    def _tags(self) -> str:
        words = [self._words["name"], _line(self._profile.get("industry")), self._words["topic"]]
        tags = ["".join(_capital(part) for part in re.findall(r"\w+", text)[:3]) for text in words]
        return " ".join(dict.fromkeys(f"#{tag}" for tag in tags if tag and not tag.isdigit()))


def topic_of(objective: str) -> str:
    """Return what an objective is about, as it can stand inside a sentence: ``… variants on new jobs`` → new jobs."""
    line = _line(objective).rstrip(" .!?")
    found = _TOPIC.search(line)
    topic = found["topic"] if found else line
    topic = _clip(topic, 120) or "our news"
    proper = topic[:1].isupper() and (topic[1:2].isupper() or found is not None)
    return topic if proper else topic[:1].lower() + topic[1:]


def _focus(instruction: str) -> str:
    """Turn a special instruction into a sentence a reader may see, or into nothing."""
    line = _line(instruction).rstrip(" .!")
    found = _FOCUS.match(line)
    return f"A word on {_clip(found['what'], 200)}, because it belongs here." if found else ""


def _tone(tone: str) -> str:
    words = set(re.findall(r"[a-z]+", tone.lower()))
    return next((name for name, known in _TONES.items() if words & set(known.split())), "plain")


def _calls(text: str) -> tuple[str, ...]:
    return next(calls for pattern, calls in CALLS if re.search(pattern, text, re.IGNORECASE))


def _line(value: Any) -> str:
    """Return a string as one line, anything else as nothing."""
    return " ".join(value.split()) if isinstance(value, str) else ""


def _sentence(text: str) -> str:
    return text if not text or text[-1] in ".!?…" else f"{text}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
