"""A world whose keys, prompts and texts are needles, and what looks for them in everything that a run leaves behind."""

import base64
import contextlib
import json

from pyarrow import parquet

from builders import ingested
from tallymark.clock import SystemClock
from tallymark.core.clock import HOUR_US
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.sandbox.langfuse.records import Project
from tallymark.sandbox.story import PROMPT
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.wire import Response
from worlds import PROJECT, open_world

KEYS = Project(PROJECT, "pk-lf-0d5b8a34-public", "sk-lf-7f1e-langfuse-secret-needle", "sandbox")
STRIPE_KEY = "sk_test_stripe_secret_needle_4242"
OTHER_SECRETS = {
    "BILLING_STRIPE_WEBHOOK_SECRET": "whsec_webhook_secret_needle_77",
    "BILLING_API_TOKEN": "token_api_secret_needle_88",
}
WRONG_SECRETS = {"LANGFUSE_SECRET_KEY": "sk-lf-wrong-needle-99", "BILLING_STRIPE_SECRET_KEY": "sk_test_wrong_needle_99"}
POSTGRESQL = "postgresql://user:password_needle@127.0.0.1:9/ledger"
# As the Authorization header carries them.
BASIC = [
    base64.b64encode(f"{KEYS.public_key}:{secret}".encode()).decode()
    for secret in (KEYS.secret_key, WRONG_SECRETS["LANGFUSE_SECRET_KEY"])
]
# What an application wrote on a trace, in every place where it can.
TEXTS = {place: f"{place}_text_needle_55" for place in ("input", "output", "metadata", "tag", "status", "comment")}
NEEDLES = (
    KEYS.secret_key,
    STRIPE_KEY,
    *BASIC,
    *OTHER_SECRETS.values(),
    *WRONG_SECRETS.values(),
    *TEXTS.values(),
    PROMPT[:30],
    "password_needle",
)
# Stripe's library says as much as it can.
LOUD = {"STRIPE_LOG": "debug"}


class Echoing:
    """A service that, for requests whose path begins so, answers with a status and repeats the caller's secrets."""

    def __init__(self, service):
        self.service, self.status, self.start, self.times = service, 0, "", 0

    def __getattr__(self, name):
        return getattr(self.service, name)

    def echo(self, status, start):
        """From now on."""
        self.status, self.start, self.times = status, start, 0

    def handle(self, request):
        """Repeat, or let the sandbox answer."""
        if not self.status or not request.path.startswith(self.start):
            return self.service.handle(request)
        self.times += 1
        keys = (
            f"{request.headers.get('authorization')} {KEYS.secret_key} {STRIPE_KEY} {' '.join(WRONG_SECRETS.values())}"
        )
        message = f"no: {keys} {POSTGRESQL} {OTHER_SECRETS['BILLING_STRIPE_WEBHOOK_SECRET']}"
        error = {"message": message, "type": "invalid_request_error", "param": keys}
        langfuse = {"message": message, "error": [keys]}
        body = langfuse if request.path.startswith("/api/public") else {"error": error}
        return Response(self.status, json.dumps(body).encode(), {"retry-after": "0.01", "request-id": "req_1"})


@contextlib.contextmanager
def secret_world(folder, faults=None):
    """A world whose keys are needles, with a story whose prompts are one, and a Stripe that often fails."""
    langfuse = Echoing(SandboxLangfuse(clock=SystemClock(), projects=(KEYS,)))
    stripe = Echoing(SandboxStripe(clock=SystemClock(), secret_key=STRIPE_KEY))
    stripe.add_meter("credits")
    with open_world(folder, traces=200, langfuse=langfuse, stripe=stripe, stripe_faults=faults, keys=KEYS) as world:
        world.settings |= {"BILLING_STRIPE_SECRET_KEY": STRIPE_KEY, **OTHER_SECRETS, **LOUD}
        write(world, "late", at_us=SystemClock().now_us() - 3 * HOUR_US)
        yield world


def often_failing():
    """A Stripe that loses answers."""
    return Faults(5, {Fault.ERROR_AFTER: 0.03, Fault.TRUNCATED: 0.03, Fault.RESET_AFTER: 0.03})


def write(world, trace_id, **changes):
    """A trace that has a needle in every text that billing has no use for."""
    trace, (generation,) = ingested(trace_id, **changes)
    trace |= {"input": TEXTS["input"], "output": {"deep": [TEXTS["output"]]}}
    trace["tags"] = [*trace["tags"], TEXTS["tag"]]
    trace["metadata"] |= {"note": TEXTS["metadata"], "nested": {TEXTS["metadata"]: [TEXTS["metadata"]]}}
    generation |= {"input": TEXTS["input"], "output": TEXTS["output"], "statusMessage": TEXTS["status"]}
    world.langfuse.put_trace(PROJECT, {**trace, "comment": TEXTS["comment"]}, [generation])


def said_by(world, *arguments, **settings):
    """Everything that a command prints."""
    ended = world.run(*arguments, **settings)
    return ended.out + ended.err


def found_in(text):
    """Which needles lie in a text."""
    return [needle for needle in NEEDLES if needle in text]


def found_in_files(folder):
    """Which needles lie in which file under a folder: in its bytes, and in the values of a Parquet file."""
    found = {}
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            if file.suffix == ".parquet":
                content += repr(parquet.read_table(file).to_pylist()).encode()
            found[file.name] = [needle for needle in NEEDLES if needle.encode() in content]
    return {name: needles for name, needles in found.items() if needles}
