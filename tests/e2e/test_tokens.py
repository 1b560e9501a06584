"""Tokens of an identity provider, which is a real server here: good and hostile ones, rotation, and outages."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from contextlib import asynccontextmanager

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from waiting_kit import until

PATIENCE = 20.0
VERSION = ("anthropic-version", "2023-06-01")
RSA, OTHER_RSA, WEAK = (rsa.generate_private_key(65537, size) for size in (2048, 2048, 1024))
EC = ec.generate_private_key(ec.SECP256R1())
ALGORITHMS = {"RS256": jwt.algorithms.RSAAlgorithm, "ES256": jwt.algorithms.ECAlgorithm}


def public(key, kid, algorithm="RS256", **more):
    return {**json.loads(ALGORITHMS[algorithm].to_jwk(key.public_key())), "kid": kid, "use": "sig", **more}


class Provider:
    """The identity provider: metadata and keys, and how often it was asked for them."""

    def __init__(self):
        self.keys = [public(RSA, "one"), public(EC, "two", "ES256"), public(WEAK, "weak")]
        self.asked = 0
        self.port = 0
        self._runner = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def start(self):
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._metadata)
        app.router.add_get("/keys", self._keys)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self):
        await self._runner.cleanup()

    async def _metadata(self, _):
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})

    async def _keys(self, _):
        self.asked += 1
        return web.json_response({"keys": self.keys})

    def token(self, key=RSA, kid="one", algorithm="RS256", header=(), without=(), **claims):
        now = int(time.time())
        told = {"iss": self.url, "aud": "gateway", "sub": "ann", "exp": now + 600, "iat": now, **claims}
        told = {name: value for name, value in told.items() if name not in without}
        return jwt.encode(told, key, algorithm, headers={"kid": kid, **dict(header)})


@pytest.fixture
async def provider():
    one = Provider()
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
def in_house(build_house, provider):
    @asynccontextmanager
    async def build(**settings):
        settings = {"issuer": provider.url, "audience": ["gateway"], "leeway": 2, **settings}
        async with build_house(auth={"jwt": settings}) as house:
            yield house

    return build


@pytest.fixture
def ask(new_client, request_body):
    async def send(house, token, name="authorization"):
        async with new_client(house.port) as client:
            value = f"Bearer {token}" if name == "authorization" else token
            await client.ask("/anthropic/v1/messages", request_body(), headers=[VERSION, (name, value)])
            return await client.answer()

    return send


async def until_answered(ask, house, token, status):
    async def asked():
        answer = await ask(house, token)
        return answer if answer.status == status else None

    return await until(asked, pause=0.05)


def error_of(answer):
    return json.loads(answer.body)["error"]


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "x-aibridge-key"])
async def test_a_token_says_who_asks_and_goes_no_further(in_house, provider, ask, name):
    async with in_house() as house:
        token = provider.token(name="Ann A.", groups=["red", "blue"])
        assert (await ask(house, token, name)).status == 200
        assert (await ask(house, token, name)).status == 200
        (_, done) = await house.simulator.ledger.wait_for(2)
        assert not any(token in value for _, value in done.headers)
        await house.books(ended=2)
        actor = house.outcomes.ended[-1][0].actor
        assert (actor.id, actor.name, actor.teams) == ("ann", "Ann A.", ("red", "blue"))
        assert provider.asked == 1
        assert not any(token.split(".")[2] in str(line) for line in house.lines())
        assert 0 < house.metric("aibridge_issuer_keys_age_seconds") < PATIENCE


async def test_claims_and_algorithms_are_the_operators_choice(in_house, provider, ask):
    settings = {
        "id_claim": "email",
        "teams_claim": "teams",
        "algorithms": ["ES256"],
        "jwks_url": f"{provider.url}/keys",
    }
    async with in_house(**settings) as house:
        token = provider.token(EC, "two", "ES256", email="ann@example.com", teams="red, blue")
        assert (await ask(house, token)).status == 200
        await house.books()
        actor = house.outcomes.ended[-1][0].actor
        assert (actor.id, actor.teams) == ("ann@example.com", ("red", "blue"))
        assert (await ask(house, provider.token(email="ann@example.com"))).status == 401


def encoded(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_hand(provider, header, sign):
    claims = jwt.decode(provider.token(), options={"verify_signature": False})
    text = f"{encoded(header)}.{encoded(claims)}"
    return f"{text}.{encoded(sign(text.encode()))}"


def with_public_key_as_secret(provider):
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": "HS256", "typ": "JWT", "kid": "one"}
    return by_hand(provider, header, lambda text: hmac.new(pem, text, hashlib.sha256).digest())


HOSTILE = {
    "of nobody": lambda p: by_hand(p, {"alg": "none", "kid": "one"}, lambda _: b""),
    "of nobody, in other letters": lambda p: by_hand(p, {"alg": "nOnE", "kid": "one"}, lambda _: b""),
    "the public key as a secret": with_public_key_as_secret,
    "of another key": lambda p: p.token(OTHER_RSA),
    "with its own key": lambda p: p.token(OTHER_RSA, header={"jwk": public(OTHER_RSA, "one")}),
    "of a weak key": lambda p: p.token(WEAK, "weak"),
    "an algorithm that is not allowed": lambda p: p.token(algorithm="RS512"),
    "the algorithm of another kind of key": lambda p: p.token(EC, "one", "ES256"),
    "of another issuer": lambda p: p.token(iss="https://example.com"),
    "for another audience": lambda p: p.token(aud=["others"]),
    "without an audience": lambda p: p.token(without=["aud"]),
    "without an end": lambda p: p.token(without=["exp"]),
    "not yet good": lambda p: p.token(nbf=int(time.time()) + 60),
    "of nobody's name": lambda p: p.token(without=["sub"]),
    "of a name that is none": lambda p: p.token(sub="a\nb"),
    "of a name without end": lambda p: p.token(sub="a" * 300),
    "cut": lambda p: p.token()[:-8],
    "other claims": lambda p: ".".join([p.token().split(".")[0], encoded({"sub": "root"}), p.token().split(".")[2]]),
    "no JSON": lambda _: f"eyJ.{encoded(b'[[[[')}.x",
    "too long": lambda p: p.token(pad="a" * 9000),
}


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_tokens_open_nothing(in_house, provider, ask, make):
    async with in_house() as house:
        answer = await until_answered(ask, house, make(provider), 401)
        assert error_of(answer)["type"] == "authentication_error"
        assert house.simulator.accepted == 0
        assert (await ask(house, provider.token())).status == 200


async def test_an_expired_token_says_so_within_the_leeway_it_is_good(in_house, provider, ask):
    async with in_house() as house:
        token = provider.token(exp=int(time.time()) - 1)
        assert (await ask(house, token)).status == 200
        answer = await until_answered(ask, house, token, 401)  # known by its hash, and only as long as it is good
        assert "expired" in error_of(answer)["message"]
        assert (await ask(house, provider.token(exp=int(time.time()) - 60))).status == 401


async def test_keys_rotate(in_house, provider, ask):
    async with in_house() as house:
        old = provider.token()
        assert (await ask(house, old)).status == 200
        provider.keys = [public(OTHER_RSA, "three")]
        new = provider.token(OTHER_RSA, "three")
        first = await ask(house, new)
        assert (first.status, first.headers["retry-after"]) == (503, "1")
        await until_answered(ask, house, new, 200)
        assert (await ask(house, old)).status == 401
        assert provider.asked == 2


async def test_keys_that_nobody_has_are_no_storm(in_house, provider, ask):
    async with in_house() as house:
        for number in range(60):
            assert (await ask(house, provider.token(OTHER_RSA, f"none-{number}"))).status in {401, 503}
        assert provider.asked <= 3
        assert (await ask(house, provider.token())).status == 200


async def test_an_outage_of_the_issuer_ends_nothing_before_its_time(in_house, provider, ask):
    async with in_house(max_age=2.0) as house:
        await provider.stop()
        for _ in range(2):  # a new one too
            assert (await ask(house, provider.token())).status == 200
        async with asyncio.timeout(PATIENCE):  # a key that is missed makes it look, and see that it cannot
            while (await ask(house, provider.token())).status == 200:
                await ask(house, provider.token(OTHER_RSA, "none"))
                await asyncio.sleep(0.1)
        answer = await ask(house, provider.token())
        assert answer.status == 503
        assert any("cannot be fetched" in line["message"] for line in house.lines())
        await provider.start()
        await until_answered(ask, house, provider.token(), 200)


async def test_a_gateway_starts_without_its_issuer_and_takes_tokens_when_it_is_there(in_house, provider, ask):
    await provider.stop()
    async with in_house() as house:
        assert (await ask(house, provider.token())).status == 503
        await provider.start()
        await until_answered(ask, house, provider.token(), 200)
