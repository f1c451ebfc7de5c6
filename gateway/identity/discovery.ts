/**
 * Reads an issuer's documents: OpenID Connect Discovery 1.0 section 4 and its key set (RFC 7517).
 * Only https, or http on loopback for an issuer that is itself there; no redirects; bounded in time and bytes.
 */
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";

export type Fetch = (url: string, init: BunFetchRequestInit) => Promise<Response>;

/** Of a request for a document: what is compressed would be unpacked before anything counts its bytes. */
export const uncompressed = {
  decompress: false,
  headers: { accept: "application/json", "accept-encoding": "identity" },
};

const loopbackHosts = ["localhost", "127.0.0.1", "[::1]"];

/** The members the gateway and the CLI use. Every endpoint was checked by `requireSecureUrl`. */
export interface IssuerMetadata {
  readonly issuer: string;
  readonly jwksUri: string;
  readonly authorizationEndpoint?: string;
  readonly tokenEndpoint?: string;
  readonly deviceAuthorizationEndpoint?: string;
  /** RFC 9207: the authorization response names its issuer. */
  readonly responseNamesIssuer: boolean;
}

/**
 * @param issuer an http:// address is accepted only on loopback, and only if this is there too.
 * @throws GatewayError identity.keys_unavailable
 */
export function requireSecureUrl(text: unknown, issuer: string, what: string): string {
  const refuse = (problem: string) =>
    new GatewayError("identity.keys_unavailable", `The identity provider's ${what} ${problem}.`);
  if (typeof text !== "string" || !URL.canParse(text)) throw refuse("is not an address");
  const url = new URL(text);
  if (url.username !== "" || url.password !== "") throw refuse("carries a credential");
  if (url.protocol === "https:") return text;
  const onLoopback = url.protocol === "http:" && loopbackHosts.includes(url.hostname);
  if (!onLoopback || new URL(issuer).protocol !== "http:") throw refuse("is not https");
  return text;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Reads the body of what was asked for `uncompressed` as a JSON object, at most `identityDocumentBytesMax` of it. */
export async function readJsonObject(response: Response): Promise<Record<string, unknown>> {
  const encoding = response.headers.get("content-encoding") ?? "identity";
  if (encoding !== "identity") {
    await response.body?.cancel();
    throw new Error("the document is compressed, which was not asked for");
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > limits.identityDocumentBytesMax) throw new Error("the document is too large");
    chunks.push(chunk);
  }
  const parsed: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks)));
  if (!isRecord(parsed)) throw new Error("the document is not a JSON object");
  return parsed;
}

/** @throws GatewayError identity.keys_unavailable, whatever went wrong; the cause says what. */
export async function fetchDocument(url: string, what: string, fetch: Fetch): Promise<Record<string, unknown>> {
  try {
    const response = await fetch(url, {
      ...uncompressed,
      redirect: "manual",
      signal: AbortSignal.timeout(limits.identityFetchTimeoutMs),
    });
    if (response.status !== 200) {
      await response.body?.cancel();
      throw new Error(`status ${response.status}`);
    }
    return await readJsonObject(response);
  } catch (cause) {
    throw new GatewayError("identity.keys_unavailable", `The identity provider's ${what} could not be read.`, {
      cause: new Error(`${url}: ${(cause as Error).message}`, { cause }),
    });
  }
}

/** The discovery document, whose `issuer` must be exactly the one asked for. */
export async function discover(issuer: string, fetch: Fetch): Promise<IssuerMetadata> {
  requireSecureUrl(issuer, issuer, "issuer");
  const url = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
  const document = await fetchDocument(url, "discovery document", fetch);
  if (document.issuer !== issuer) {
    throw new GatewayError("identity.keys_unavailable", "The discovery document names another issuer.");
  }
  const endpoint = <Name extends string>(name: Name, member: string) =>
    document[member] === undefined
      ? {}
      : ({ [name]: requireSecureUrl(document[member], issuer, member) } as Record<Name, string>);
  return {
    issuer,
    jwksUri: requireSecureUrl(document.jwks_uri, issuer, "jwks_uri"),
    ...endpoint("authorizationEndpoint", "authorization_endpoint"),
    ...endpoint("tokenEndpoint", "token_endpoint"),
    ...endpoint("deviceAuthorizationEndpoint", "device_authorization_endpoint"),
    responseNamesIssuer: document.authorization_response_iss_parameter_supported === true,
  };
}
