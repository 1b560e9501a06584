"""Stand-ins for what hands out AWS credentials: STS, SSO, EC2's and ECS's metadata services; one server on loopback.

What they hand out are sessions that the simulator knows (`AWS.sessions`), good for as long as they say, and
`SLACK` longer: on a machine that is busy a request is underway for a while.
"""

import datetime as dt
import hashlib
import json
import re
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from aibridge.simulator.sigv4 import Session

SLACK = 1.5
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/bedrock"
START_URL = "https://example.awsapps.com/start"
SECRETS = {
    "sso": "sso-access-token-secret",
    "refresh": "sso-refresh-token-secret",
    "web": "web-identity-token-secret",
    "container": "container-token-secret",
}
"""What the stand-ins ask for, and no text may hold."""

_CREDENTIALS = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/sts/")


class Sessions(dict):
    """Sessions by access key; remembers which keys were looked for, and when."""

    def __init__(self):
        super().__init__()
        self.used = {}

    def get(self, key, default=None):
        self.used.setdefault(key, time.time())
        return super().get(key, default)


class AWS:
    """The stand-ins. `lives` is for how many seconds what they hand out is good."""

    def __init__(self, server, lives):
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.lives = lives
        self.sessions = Sessions()
        self.long_lived = {}  # secrets by access key, of those that may assume a role
        self.asked = []  # one mapping each: what was asked, of whom, with which parameters
        self.issued = Counter()
        self.refusals = {}  # what is refused now: action -> (status, code, message)
        self.may_answer = threading.Event()
        self.may_answer.set()

    def asks(self, action):
        return [one for one in self.asked if one["action"] == action]

    def note(self, action, **more):
        self.asked.append({"action": action, **more})
        self.may_answer.wait(30)
        return self.refusals.get(action)

    def issue(self, action, who):
        """Return a new access key, which ends with who asked, its session, and the moment that it is said to expire."""
        self.issued[action] += 1
        key = f"ASIA{self.issued.total():012d}{who}"
        expires = time.time() + self.lives
        self.sessions[key] = Session(secret=f"secret/of/{key}", token=f"token/of/{key}", expires_at=expires + SLACK)
        return key, self.sessions[key], expires

    def environment(self, home):
        """Return the variables of a process that knows these stand-ins and no other place; files are in `home`."""
        return {
            "HOME": str(home),
            "AWS_CONFIG_FILE": str(home / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(home / "credentials"),
            "BOTO_CONFIG": str(home / "boto"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url,
            "AWS_ENDPOINT_URL_STS": self.url,
            "AWS_ENDPOINT_URL_SSO": self.url,
            "AWS_ENDPOINT_URL_SSO_OIDC": self.url,
        }


def container_environment(aws):
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{aws.url}/container",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": SECRETS["container"],
    }


def web_identity_environment(home):
    (home / "web-token").write_text(SECRETS["web"])
    return {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(home / "web-token"),
        "AWS_ROLE_ARN": ROLE,
        "AWS_ROLE_SESSION_NAME": "pod",
    }


def write_profiles(home, aws):
    """Write configuration files with a profile of each sort."""
    aws.long_lived["AKIABASE"] = "secret/of/base"
    (home / "web-token").write_text(SECRETS["web"])
    (home / "credentials").write_text("[base]\naws_access_key_id = AKIABASE\naws_secret_access_key = secret/of/base\n")
    sso = f"sso_account_id = {ACCOUNT}\nregion = us-east-1"
    (home / "config").write_text(
        f"[profile sso]\n{sso}\nsso_role_name = sso\nsso_start_url = {START_URL}\nsso_region = us-east-1\n"
        f"[profile sso-session]\n{sso}\nsso_role_name = session\nsso_session = work\n"
        f"[sso-session work]\nsso_start_url = {START_URL}\nsso_region = us-east-1\n"
        f"[profile web]\nrole_arn = {ROLE}\nweb_identity_token_file = {home / 'web-token'}\n"
        "role_session_name = web\n"
        f"[profile role]\nrole_arn = {ROLE}\nsource_profile = base\nexternal_id = partner-secret\n"
        "role_session_name = role\n"
        f"[profile ec2-role]\nrole_arn = {ROLE}\ncredential_source = Ec2InstanceMetadata\n"
        "role_session_name = ec2\n"
        f"[profile mfa]\nrole_arn = {ROLE}\nsource_profile = base\nmfa_serial = arn:aws:iam::{ACCOUNT}:mfa/alice\n"
        "[profile half]\naws_access_key_id = AKIAHALF\n"
        "[profile process]\ncredential_process = /bin/sh -c 'echo process-secret >&2; exit 1'\n"
    )


def write_sso_token(home, *, expires_in=3600.0):
    """Write what `aws sso login` leaves behind, for both ways of naming a session; return the folder."""
    folder = home / ".aws" / "sso" / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=expires_in)
    token = {
        "startUrl": START_URL,
        "region": "us-east-1",
        "accessToken": SECRETS["sso"] if expires_in > 0 else "stale",
        "expiresAt": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "refreshToken": SECRETS["refresh"],
        "clientId": "client",
        "clientSecret": SECRETS["refresh"],
        "registrationExpiresAt": "2099-01-01T00:00:00Z",
    }
    for name in (START_URL, "work"):
        (folder / f"{hashlib.sha1(name.encode()).hexdigest()}.json").write_text(json.dumps(token))
    return folder


@contextmanager
def serving_aws(lives=3600.0):
    """Serve the stand-ins, on a port of the kernel's choice."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.aws = AWS(server, lives)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.aws
    finally:
        server.aws.may_answer.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *_):
        pass

    def do_PUT(self):
        ttl = self.headers.get("x-aws-ec2-metadata-token-ttl-seconds")
        refusal = self.aws.note("imds-token", path=self.path)
        if refusal or self.path != "/latest/api/token" or ttl is None:
            self._answer(refusal[0] if refusal else 400, b"")
        else:
            self._answer(200, b"imds-token")

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path.startswith("/latest/meta-data/iam/security-credentials/"):
            self._imds(url.path.rpartition("/")[2])
        elif url.path == "/container":
            self._container()
        elif url.path == "/federation/credentials":
            self._sso(parse_qs(url.query))
        else:
            self._answer(404, b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        if self.path == "/token":
            self._sso_token(json.loads(body))
            return
        asked = {name: values[0] for name, values in parse_qs(body).items()}
        action = asked.pop("Action")
        found = _CREDENTIALS.search(self.headers.get("authorization", ""))
        key = found[1] if found else None
        region = found[2] if found else None
        refusal = self.aws.note(action, by=key, region=region, asked=asked, target=self.path)
        if refusal is None and not self._may_ask(action, key, asked):
            refusal = (403, "InvalidClientTokenId", "The security token included in the request is invalid.")
        if refusal:
            status, code, message = refusal
            error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
            self._answer(status, f"<ErrorResponse>{error}</ErrorResponse>".encode(), "text/xml")
        else:
            self._answer(200, self._assumed(action, asked.get("RoleSessionName", "")), "text/xml")

    def _may_ask(self, action, key, asked):
        if action == "AssumeRoleWithWebIdentity":
            return asked["WebIdentityToken"] == SECRETS["web"]
        session = dict.get(self.aws.sessions, key)
        if session is None:
            return key in self.aws.long_lived
        return session.token == self.headers.get("x-amz-security-token") and time.time() < session.expires_at

    def _assumed(self, action, who):
        key, session, expires = self.aws.issue(action, who)
        credentials = (
            f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{session.secret}</SecretAccessKey>"
            f"<SessionToken>{session.token}</SessionToken><Expiration>{_utc(expires)}</Expiration>"
        )
        user = f"<AssumedRoleUser><AssumedRoleId>A:b</AssumedRoleId><Arn>{ROLE}/s</Arn></AssumedRoleUser>"
        result = f"<{action}Result><Credentials>{credentials}</Credentials>{user}</{action}Result>"
        return f"<{action}Response>{result}<ResponseMetadata/></{action}Response>".encode()

    def _imds(self, role):
        if self.headers.get("x-aws-ec2-metadata-token") != "imds-token":
            self._answer(401, b"")
        elif not role:
            refusal = self.aws.note("imds-role")
            self._answer(refusal[0] if refusal else 200, b"bedrock-instance")
        else:
            self.aws.note("imds")
            self._answer_json({"Code": "Success", **self._document("imds", "Token")})

    def _container(self):
        refusal = self.aws.note("container")
        if refusal or self.headers.get("authorization") != SECRETS["container"]:
            self._answer(refusal[0] if refusal else 403, (refusal[2] if refusal else "no").encode())
        else:
            self._answer_json(self._document("container", "Token"))

    def _sso(self, asked):
        refusal = self.aws.note("sso", asked=asked)
        if refusal or self.headers.get("x-amz-sso_bearer_token") != SECRETS["sso"]:
            body = b'{"message":"Session token not found or invalid"}'
            self._answer(refusal[0] if refusal else 401, body, error_type="UnauthorizedException")
            return
        key, session, expires = self.aws.issue("sso", asked["role_name"][0])
        given = {"accessKeyId": key, "secretAccessKey": session.secret, "sessionToken": session.token}
        self._answer_json({"roleCredentials": {**given, "expiration": int(expires * 1000)}})

    def _sso_token(self, asked):
        refusal = self.aws.note("sso-token", asked=asked["grantType"])
        if refusal or asked["refreshToken"] != SECRETS["refresh"]:
            self._answer(400, b'{"error":"invalid_grant"}', error_type="InvalidGrantException")
            return
        given = {"accessToken": SECRETS["sso"], "expiresIn": 28800, "refreshToken": SECRETS["refresh"]}
        self._answer_json({**given, "tokenType": "Bearer"})

    def _document(self, action, token):
        key, session, expires = self.aws.issue(action, action)
        # Both services tell whole seconds.
        told = dt.datetime.fromtimestamp(expires, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"AccessKeyId": key, "SecretAccessKey": session.secret, token: session.token, "Expiration": told}

    def _answer_json(self, document):
        self._answer(200, json.dumps(document).encode(), "application/json")

    def _answer(self, status, body, media_type="text/plain", error_type=None):
        self.send_response(status)
        if error_type is not None:
            self.send_header("x-amzn-errortype", error_type)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @property
    def aws(self):
        return self.server.aws


def _utc(seconds):
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat().replace("+00:00", "Z")
