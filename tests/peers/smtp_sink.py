#!/usr/bin/env python3
"""A real SMTP server (aiosmtpd) that misbehaves on request, by the recipient's local part.

usage: smtp_sink.py --maildir DIR [--port N] [--tls none|starttls|implicit --cert F --key F] [--auth user:pass]

  perm550@ perm5XX@ temp451@ temp4XX@   RCPT is refused with that code
  flakyN-x@                             the first N tries are refused with 451, then accepted
  data554@ data451@                     the end of DATA is answered with that code
  drop-rcpt@                            the connection is closed at RCPT
  drop-data@                            closed after DATA's 354, before the body is read
  drop-dot@                             the message is kept, then the connection is closed without an answer
Anything else is accepted. What is accepted is a file in DIR, by rename: <n>.eml, with X-Sink-* headers before it.
Prints "listening PORT" once it does.
"""
import argparse, asyncio, pathlib, re, ssl
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--maildir", required=True, type=pathlib.Path)
parser.add_argument("--tls", default="none", choices=["none", "starttls", "implicit"])
parser.add_argument("--cert")
parser.add_argument("--key")
parser.add_argument("--auth")
args = parser.parse_args()
tries, kept = {}, 0


async def drop(server):
    server.transport.abort()
    return "421 bye"


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        local = address.split("@")[0].lower()
        if found := re.match(r"(perm|temp)(\d{3})", local):
            first = "5" if found[1] == "perm" else "4"
            return f"{found[2]} {first}.1.1 refused by the test server"
        if found := re.match(r"flaky(\d+)", local):
            tries[address] = tries.get(address, 0) + 1
            if tries[address] <= int(found[1]):
                return "451 4.3.0 temporary failure"
        if local.startswith("drop-rcpt"):
            return await drop(server)
        server.drop_data = local.startswith("drop-data")
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        global kept
        local = envelope.rcpt_tos[0].split("@")[0].lower()
        if found := re.match(r"data(\d{3})", local):
            return f"{found[1]} {found[1][0]}.3.0 message refused by the test server"
        kept += 1
        head = f"X-Sink-From: {envelope.mail_from}\r\nX-Sink-To: {envelope.rcpt_tos[0]}\r\n"
        encrypted = server.transport.get_extra_info("sslcontext") is not None
        head += f"X-Sink-TLS: {encrypted}\r\nX-Sink-Auth: {bool(session.authenticated)}\r\n"
        part = args.maildir / f".{kept}.part"
        part.write_bytes(head.encode() + (envelope.original_content or envelope.content))
        part.rename(args.maildir / f"{kept}.eml")
        if local.startswith("drop-dot"):
            return await drop(server)
        return f"250 2.0.0 OK queued as T{kept}"


class Server(SMTP):
    drop_data = False

    async def smtp_DATA(self, arg):
        if self.drop_data:
            await self.push("354 go on")
            await drop(self)
            return None
        return await super().smtp_DATA(arg)


def authenticate(server, session, envelope, mechanism, data):
    user, _, password = args.auth.partition(":")
    right = isinstance(data, LoginPassword) and (data.login.decode(), data.password.decode()) == (user, password)
    return AuthResult(success=right, handled=right)


async def main():
    args.maildir.mkdir(parents=True, exist_ok=True)
    context = None
    if args.tls != "none":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(args.cert, args.key)
    settings = dict(hostname="mail.test", enable_SMTPUTF8=True, timeout=60)
    if args.tls == "starttls":
        settings.update(tls_context=context, require_starttls=True)
    if args.auth:
        settings.update(authenticator=authenticate, auth_required=True, auth_require_tls=args.tls == "starttls")
    loop = asyncio.get_running_loop()
    implicit = context if args.tls == "implicit" else None
    server = await loop.create_server(
        lambda: Server(Handler(), loop=loop, **settings), "127.0.0.1", args.port, ssl=implicit
    )
    print("listening", server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
