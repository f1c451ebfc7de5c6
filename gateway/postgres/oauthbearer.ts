/**
 * The server's side of SASL OAUTHBEARER (RFC 7628), as PostgreSQL 18 speaks it: reads the client's first message and
 * words the answer to a token that is not accepted. Nothing here repeats any of what a client sent: it may be a token.
 */
import { GatewayError } from "../errors.ts";

/** What the `auth` value holds. Without one the client asks where to get a token. */
export type BearerAuth =
  | { readonly kind: "discovery" }
  | { readonly kind: "token"; readonly token: string }
  | { readonly kind: "unusable"; readonly why: string };

const separator = "\u0001";

function malformed(why: string): GatewayError {
  return new GatewayError("protocol.malformed", `malformed OAUTHBEARER message: ${why}`);
}

/**
 * `n,,^Aauth=Bearer <token>^A^A`: the GS2 header, key=value pairs that each end in ^A, and a last ^A.
 * @throws GatewayError protocol.malformed
 */
export function parseInitialResponse(message: Buffer): BearerAuth {
  // One character a byte, so that no byte is lost or joined with another before it is checked.
  const text = message.toString("latin1");
  if (text === "") throw malformed("it is empty");
  const flag = text[0];
  if (flag === "p") throw malformed("channel binding is not supported for OAUTHBEARER");
  if (flag !== "n" && flag !== "y") throw malformed("the channel-binding flag is not n or y");
  if (text[1] !== ",") throw malformed("a comma is missing behind the channel-binding flag");
  if (text.startsWith("a=", 2)) throw malformed("an authorization identity is not supported");
  if (text[2] !== ",") throw malformed("an attribute is not expected in its header");
  if (text[3] !== separator) throw malformed("its header does not end in ^A");
  const auth = authValue(text.slice(4));
  if (auth === undefined) throw malformed("there is no auth value");
  return auth === "" ? { kind: "discovery" } : readAuth(auth);
}

function authValue(pairs: string): string | undefined {
  let auth: string | undefined;
  for (let at = 0; at < pairs.length; ) {
    const end = pairs.indexOf(separator, at);
    if (end < 0) throw malformed("a key/value pair is not terminated");
    if (end === at) {
      if (end + 1 < pairs.length) throw malformed("there is data behind its final ^A");
      return auth;
    }
    const pair = pairs.slice(at, end);
    const equals = pair.indexOf("=");
    if (equals < 0) throw malformed("a key has no value");
    const key = pair.slice(0, equals);
    const value = pair.slice(equals + 1);
    if (!/^[A-Za-z]+$/.test(key)) throw malformed("a key is not a word of letters");
    if (!/^[\x20-\x7e\t\r\n]*$/.test(value)) throw malformed("a value has characters that are not allowed");
    // Other keys (host, port) are to be ignored, by section 3.1.
    if (key === "auth") {
      if (auth !== undefined) throw malformed("there are several auth values");
      auth = value;
    }
    at = end + 1;
  }
  throw malformed("its final ^A is missing");
}

/** RFC 6750 section 2.1: the scheme in any case, one or more spaces, a b64token. */
function readAuth(auth: string): BearerAuth {
  const scheme = /^bearer +/i.exec(auth);
  if (scheme === null) return { kind: "unusable", why: "the authentication scheme is not Bearer" };
  const token = auth.slice(scheme[0].length);
  if (token === "") return { kind: "unusable", why: "the token is empty" };
  if (!/^[A-Za-z0-9._~+/-]+=*$/.test(token))
    return { kind: "unusable", why: "the token has characters that are not allowed" };
  return { kind: "token", token };
}

export interface OAuthAnnouncement {
  readonly issuer: string;
  readonly scope: string;
}

/** Section 3.2.2: says that the token was not accepted, and where one is to be had. */
export function errorDocument({ issuer, scope }: OAuthAnnouncement): Buffer {
  return Buffer.from(
    JSON.stringify({
      status: "invalid_token",
      // OpenID Connect Discovery 4.1: a last slash of the issuer goes first.
      "openid-configuration": `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`,
      scope,
    }),
  );
}

/** Section 3.2.3: the client acknowledges the failure by a single ^A. @throws GatewayError protocol.malformed */
export function checkAcknowledgement(message: Buffer): void {
  if (message.length !== 1 || message[0] !== 1) throw malformed("a single ^A was expected");
}
