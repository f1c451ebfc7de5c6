/**
 * Gets a token for a person at a terminal: device flow (RFC 8628), or authorization code with PKCE (RFC 7636) over a
 * loopback redirect (RFC 8252); keeps it, and renews it by its refresh token. A convenience: any OIDC token will do.
 */
import { createHash, randomBytes } from "node:crypto";
import { createRemoteJWKSet, customFetch, decodeJwt, jwtVerify } from "jose";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import {
  type Credentials,
  credentialsPath,
  type Environment,
  listCredentials,
  readCredentials,
  withCredentialsLock,
  writeCredentials,
} from "./credentials-file.ts";
import {
  discover,
  type Fetch,
  type IssuerMetadata,
  readJsonObject,
  requireSecureUrl,
  uncompressed,
} from "./discovery.ts";

export interface LoginOptions {
  readonly issuer: string;
  readonly clientId: string;
  /** "openid email groups offline_access" when not given. */
  readonly scope?: string;
  /** Which token to keep: what the gateway's configuration takes of this issuer; ID token when not given. */
  readonly profile?: "id-token" | "access-token";
  /** "auto", the default: browser if one opens, else device. */
  readonly flow?: "auto" | "browser" | "device";
  /** Tells the person what to do next: an address to open, a code to compare. */
  readonly show: (text: string) => void;
  /** Whether it could be opened. Nothing is opened when not given. */
  readonly openBrowser?: (url: string) => Promise<boolean>;
  readonly environment?: Environment;
  readonly fetch?: Fetch;
  readonly now?: () => number;
  readonly signal?: AbortSignal;
}

export interface CurrentTokenOptions {
  /** Where only one login is kept, neither is needed. */
  readonly issuer?: string;
  readonly clientId?: string;
  readonly environment?: Environment;
  readonly fetch?: Fetch;
  readonly now?: () => number;
}

interface Flow {
  readonly metadata: IssuerMetadata;
  readonly options: LoginOptions;
  readonly scope: string;
  readonly fetch: Fetch;
  readonly now: () => number;
  readonly signal: AbortSignal;
}

interface TokenAnswer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

const defaultScope = "openid email groups offline_access";
/** Renewed this long before it expires, so that it lasts through a connection's start. */
const renewBeforeMs = 60_000;
const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code";

function failed(message: string, hint?: string): GatewayError {
  return new GatewayError("api.unauthenticated", message, hint === undefined ? {} : { hint });
}

/** @returns what was kept in the credentials file. */
export async function login(options: LoginOptions): Promise<Credentials> {
  const fetch = options.fetch ?? globalThis.fetch;
  const timeout = AbortSignal.timeout(limits.loginTimeoutMs);
  const flow: Flow = {
    metadata: await discover(options.issuer, fetch),
    options,
    scope: options.scope ?? defaultScope,
    fetch,
    now: options.now ?? Date.now,
    signal: options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]),
  };
  const byDevice = options.flow === "device" || (options.flow !== "browser" && options.openBrowser === undefined);
  const entry = byDevice ? await loginByDevice(flow) : await loginByBrowser(flow);
  await writeCredentials(options.environment ?? process.env, entry);
  return entry;
}

/** The kept token, renewed where it is about to expire. @throws GatewayError api.unauthenticated: log in (again). */
export async function currentToken(options: CurrentTokenOptions = {}): Promise<string> {
  const environment = options.environment ?? process.env;
  const now = options.now ?? Date.now;
  const entries = (await listCredentials(environment)).filter(
    (entry) =>
      (options.issuer === undefined || entry.issuer === options.issuer) &&
      (options.clientId === undefined || entry.clientId === options.clientId),
  );
  const [entry, another] = entries;
  if (entry === undefined) throw failed("Nobody is logged in.", "Run `sallyport login`.");
  if (another !== undefined) throw failed("There are logins at several issuers; say which issuer and client.");
  if (entry.expiresAtMs - now() > renewBeforeMs) return entry.token;
  if (entry.refreshToken === undefined) {
    if (entry.expiresAtMs > now()) return entry.token;
    throw failed("The login has expired.", "Run `sallyport login`.");
  }
  const path = credentialsPath(environment, entry.issuer, entry.clientId);
  return withCredentialsLock(path, async () => {
    // Another process may have renewed it while this one waited.
    const latest = (await readCredentials(path)) ?? entry;
    if (latest.expiresAtMs - now() > renewBeforeMs) return latest.token;
    return (await renew(latest, environment, options.fetch ?? globalThis.fetch, now)).token;
  });
}

async function renew(
  entry: Credentials,
  environment: Environment,
  fetch: Fetch,
  now: () => number,
): Promise<Credentials> {
  const metadata = await discover(entry.issuer, fetch);
  const answer = await postForm(requireEndpoint(metadata.tokenEndpoint, "token endpoint"), fetch, {
    grant_type: "refresh_token",
    refresh_token: entry.refreshToken ?? "",
    client_id: entry.clientId,
  });
  if (answer.status !== 200) throw failed("The login could not be renewed.", "Run `sallyport login`.");
  const renewed = await acceptTokens(answer.body, {
    metadata,
    fetch,
    now,
    clientId: entry.clientId,
    scope: entry.scope,
    profile: entry.profile,
    refreshToken: entry.refreshToken,
  });
  await writeCredentials(environment, renewed);
  return renewed;
}

async function loginByDevice(flow: Flow): Promise<Credentials> {
  const { metadata, options, fetch } = flow;
  const { status, body } = await postForm(
    requireEndpoint(metadata.deviceAuthorizationEndpoint, "device authorization endpoint"),
    fetch,
    { client_id: options.clientId, scope: flow.scope },
  );
  const { device_code: deviceCode, user_code: userCode, verification_uri: address } = body;
  if (status !== 200 || typeof deviceCode !== "string" || typeof userCode !== "string")
    throw failed(
      `The identity provider does not offer a device login to this client: ${status === 200 ? "its answer has no code" : reasonIn(body)}.`,
    );
  requireSecureUrl(address, metadata.issuer, "verification address");
  options.show(`Open ${printable(address)} and enter the code ${printable(userCode)}`);

  const lifetimeMs = typeof body.expires_in === "number" ? body.expires_in * 1_000 : limits.loginTimeoutMs;
  const untilMs = flow.now() + Math.min(lifetimeMs, limits.loginTimeoutMs);
  let intervalMs = typeof body.interval === "number" && body.interval > 0 ? body.interval * 1_000 : 5_000;
  const tokenEndpoint = requireEndpoint(metadata.tokenEndpoint, "token endpoint");
  while (flow.now() < untilMs) {
    await pause(Math.min(intervalMs, 60_000), flow.signal);
    const answer = await postForm(tokenEndpoint, fetch, {
      grant_type: deviceGrant,
      device_code: deviceCode,
      client_id: options.clientId,
    });
    if (answer.status === 200) return acceptTokens(answer.body, acceptance(flow));
    if (answer.body.error === "slow_down") intervalMs += 5_000;
    else if (answer.body.error !== "authorization_pending") throw refusedBy(answer.body);
  }
  throw failed("The code has expired before it was entered.", "Run `sallyport login --device` again.");
}

async function loginByBrowser(flow: Flow): Promise<Credentials> {
  const { metadata, options } = flow;
  const authorizationEndpoint = requireEndpoint(metadata.authorizationEndpoint, "authorization endpoint");
  const tokenEndpoint = requireEndpoint(metadata.tokenEndpoint, "token endpoint");
  const [verifier, state, nonce] = [randomText(), randomText(), randomText()];
  const redirect = listenForRedirect(state, metadata, flow.signal);
  try {
    const url = new URL(authorizationEndpoint);
    const parameters = {
      response_type: "code",
      client_id: options.clientId,
      redirect_uri: redirect.uri,
      scope: flow.scope,
      state,
      nonce,
      code_challenge: createHash("sha256").update(verifier).digest("base64url"),
      code_challenge_method: "S256",
      // Without it, OpenID providers leave out the refresh token that `offline_access` asks for.
      ...(flow.scope.split(" ").includes("offline_access") && { prompt: "consent" }),
    };
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
    const opened = (await options.openBrowser?.(url.href)) ?? false;
    if (!opened && options.flow !== "browser" && metadata.deviceAuthorizationEndpoint !== undefined)
      return await loginByDevice(flow);
    options.show(`${opened ? "Log in with the browser; if none opened" : "To log in"}, open ${url.href}`);
    const code = await redirect.code;
    const answer = await postForm(tokenEndpoint, flow.fetch, {
      grant_type: "authorization_code",
      code,
      redirect_uri: redirect.uri,
      client_id: options.clientId,
      code_verifier: verifier,
    });
    if (answer.status !== 200) throw refusedBy(answer.body);
    return await acceptTokens(answer.body, acceptance(flow), nonce);
  } finally {
    redirect.close();
  }
}

/** A server on 127.0.0.1 that takes one answer: the one that carries our state, from our issuer (RFC 9207). */
function listenForRedirect(state: string, metadata: IssuerMetadata, signal: AbortSignal) {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  // It may be rejected when nobody waits any more.
  promise.catch(() => undefined);
  const onAbort = () => reject(failed("The login was not completed in time."));
  signal.addEventListener("abort", onAbort, { once: true });
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      const { pathname, searchParams } = new URL(request.url);
      const page = (text: string, status: number) =>
        new Response(`${text}\n`, {
          status,
          headers: { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store", connection: "close" },
        });
      if (request.method !== "GET" || pathname !== "/callback") return page("Not found.", 404);
      if (searchParams.get("state") !== state) return page("This answer belongs to no login that is under way.", 400);
      const from = searchParams.get("iss");
      if (from === null ? metadata.responseNamesIssuer : from !== metadata.issuer) {
        reject(failed("The answer came from another identity provider."));
        return page("This answer came from another identity provider.", 400);
      }
      const code = searchParams.get("code");
      if (code === null) {
        reject(refusedBy({ error: searchParams.get("error") }));
        return page("The login was refused. You can close this page.", 200);
      }
      resolve(code);
      return page("You are logged in. You can close this page.", 200);
    },
  });
  return {
    uri: `http://127.0.0.1:${server.port}/callback`,
    code: promise,
    close() {
      signal.removeEventListener("abort", onAbort);
      server.stop();
    },
  };
}

interface Acceptance {
  readonly metadata: IssuerMetadata;
  readonly fetch: Fetch;
  readonly now: () => number;
  readonly clientId: string;
  readonly scope: string;
  readonly profile: Credentials["profile"];
  /** The one in use, kept where the answer has no new one. */
  readonly refreshToken?: string | undefined;
}

function acceptance({ metadata, options, scope, fetch, now }: Flow): Acceptance {
  return { metadata, fetch, now, clientId: options.clientId, scope, profile: options.profile ?? "id-token" };
}

/** Checks a token response; an ID token in it by signature, issuer, audience, time and nonce. */
async function acceptTokens(body: Record<string, unknown>, want: Acceptance, nonce?: string): Promise<Credentials> {
  const { id_token: idToken, access_token: accessToken } = body;
  let token: unknown = accessToken;
  let expiresAtMs = want.now() + (typeof body.expires_in === "number" ? body.expires_in * 1_000 : 0);
  if (typeof idToken === "string") {
    const exp = await checkIdToken(idToken, want, nonce);
    if (want.profile === "id-token") [token, expiresAtMs] = [idToken, exp * 1_000];
  } else if (want.profile === "id-token" || nonce !== undefined) {
    throw failed("The identity provider gave no ID token; does the scope include openid?");
  }
  if (typeof token !== "string" || token === "" || token.length > limits.tokenBytesMax)
    throw failed("The identity provider gave no token that can be used.");
  if (want.profile === "access-token") expiresAtMs = expiryOf(token) ?? expiresAtMs;
  const refreshToken =
    typeof body.refresh_token === "string" && body.refresh_token !== "" ? body.refresh_token : want.refreshToken;
  return {
    issuer: want.metadata.issuer,
    clientId: want.clientId,
    scope: want.scope,
    profile: want.profile,
    token,
    expiresAtMs,
    ...(refreshToken !== undefined && { refreshToken }),
  };
}

/** @returns its `exp`. */
async function checkIdToken(idToken: string, want: Acceptance, nonce: string | undefined): Promise<number> {
  const keys = createRemoteJWKSet(new URL(want.metadata.jwksUri), {
    timeoutDuration: limits.identityFetchTimeoutMs,
    [customFetch]: (url, init) => want.fetch(url, init),
  });
  try {
    const { payload } = await jwtVerify(idToken, keys, {
      issuer: want.metadata.issuer,
      audience: want.clientId,
      requiredClaims: ["exp", "iat", "sub"],
      // A remote key set holds public keys only, so neither "none" nor an HMAC can pass; said again for the reader.
      algorithms: ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"],
      clockTolerance: 30,
      currentDate: new Date(want.now()),
    });
    if (nonce !== undefined && payload.nonce !== nonce) throw new Error("the nonce is another");
    return payload.exp ?? 0;
  } catch (cause) {
    throw new GatewayError("api.unauthenticated", "The identity provider's ID token could not be verified.", {
      cause,
    });
  }
}

/** Of an access token that is a JWT; for its renewal only, so it need not be verified. */
function expiryOf(token: string): number | undefined {
  try {
    const { exp } = decodeJwt(token);
    return exp === undefined ? undefined : exp * 1_000;
  } catch {
    return undefined;
  }
}

function requireEndpoint(url: string | undefined, what: string): string {
  if (url === undefined) throw failed(`The identity provider has no ${what}.`);
  return url;
}

async function postForm(url: string, fetch: Fetch, form: Record<string, string>): Promise<TokenAnswer> {
  try {
    const response = await fetch(url, {
      ...uncompressed,
      method: "POST",
      headers: { ...uncompressed.headers, "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams(form).toString(),
      redirect: "manual",
      signal: AbortSignal.timeout(limits.identityFetchTimeoutMs),
    });
    return { status: response.status, body: await readJsonObject(response) };
  } catch (cause) {
    throw new GatewayError("api.unauthenticated", "The identity provider could not be reached.", {
      cause: new Error(`${url}: ${(cause as Error).message}`, { cause }),
    });
  }
}

function refusedBy(body: Record<string, unknown>): GatewayError {
  return failed(`The identity provider refused the login: ${reasonIn(body)}.`);
}

const reasonIn = ({ error }: Record<string, unknown>) =>
  typeof error === "string" ? printable(error).slice(0, 100) : "no reason given";

/** What a server sends is shown on a terminal: nothing but visible ASCII may reach it. */
function printable(text: unknown): string {
  return String(text).replace(/[^\x20-\x7e]/g, "?");
}

function randomText(): string {
  return randomBytes(32).toString("base64url");
}

function pause(durationMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const refuse = () => reject(failed("The login was not completed in time."));
    if (signal.aborted) return refuse();
    const onAbort = () => {
      clearTimeout(timer);
      refuse();
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    }, durationMs);
    signal.addEventListener("abort", onAbort, { once: true });
  });
}
