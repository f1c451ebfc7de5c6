/**
 * Verifies a caller's OIDC token (RFC 7519, OpenID Connect Core 3.1.3.7; RFC 9068 for access tokens) and says who it is.
 * The issuer is picked by the unverified `iss` among those configured; nothing else in a token chooses keys or rules,
 * so `jku`, `jwk`, `x5u` and `x5c` in its header have no effect.
 */
import { errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import type { IssuerConfig } from "../config.ts";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { IdentityInput } from "../policy/input.ts";
import { claimsInvalid, identityFromClaims } from "./claims.ts";
import { type Fetch, isRecord } from "./discovery.ts";
import { createIssuerKeys } from "./keys.ts";

export interface Authenticated {
  readonly identity: IdentityInput;
  /** When the token expires, by the clock of `now`. */
  readonly expiresAtMs: number;
  /** How long an open session may outlive it. */
  readonly graceMs: number;
}

export interface Verifier {
  /** @throws GatewayError identity.*; its message never contains any of the token. */
  verify(token: string): Promise<Authenticated>;
}

export interface VerifierOptions {
  readonly fetch?: Fetch;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
  readonly log?: (message: string, fields: Record<string, unknown>) => void;
}

interface Issuer {
  readonly config: IssuerConfig;
  readonly keys: JWTVerifyGetKey;
}

interface UnverifiedToken {
  readonly header: Record<string, unknown>;
  readonly payload: Record<string, unknown>;
}

const compactJws = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/;
/** 9999-12-31, the last instant that the recording can spell. */
const expirySecondsMax = 253_402_300_799;

export function createVerifier(configs: readonly IssuerConfig[], options: VerifierOptions = {}): Verifier {
  const now = options.now ?? Date.now;
  const fetch = options.fetch ?? globalThis.fetch;
  const issuers = new Map<string, Issuer>();
  for (const config of configs) {
    const keys = createIssuerKeys({
      issuer: config.issuer,
      fetch,
      now,
      ...(config.jwks_uri !== undefined && { jwksUri: config.jwks_uri }),
      ...(options.log !== undefined && { log: options.log }),
    });
    issuers.set(config.issuer, { config, keys });
  }

  return {
    async verify(token) {
      const { header, payload } = parseUnverified(token);
      const issuer = typeof payload.iss === "string" ? issuers.get(payload.iss) : undefined;
      if (issuer === undefined)
        throw new GatewayError("identity.issuer_unknown", "The token's issuer is not one this gateway trusts.");
      const { config, keys } = issuer;
      checkHeader(header, config);
      const claims = await verifySignature(token, config, keys, now());
      // The keys may have taken seconds to arrive: times are judged by the clock as it is now.
      const expiresAtMs = checkTimes(claims, config, now());
      checkParties(claims, config);
      return Object.freeze({
        identity: identityFromClaims(claims, config),
        expiresAtMs,
        graceMs: config.expiry_grace,
      });
    },
  };
}

/** Size and shape first, so that nothing large or odd is decoded. */
function parseUnverified(token: string): UnverifiedToken {
  if (token === "") {
    throw new GatewayError("identity.token_missing", "No token was given.", {
      hint: "Give an OIDC token as the password; `sallyport token` prints one.",
    });
  }
  if (token.length > limits.tokenBytesMax)
    throw new GatewayError("identity.token_too_large", `The token is longer than ${limits.tokenBytesMax} bytes.`);
  if (!compactJws.test(token)) throw malformed();
  const [header = "", payload = ""] = token.split(".");
  return { header: decodePart(header), payload: decodePart(payload) };
}

function decodePart(part: string): Record<string, unknown> {
  let decoded: unknown;
  try {
    decoded = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(Buffer.from(part, "base64url")));
  } catch {
    // The cause would quote the token.
    throw malformed();
  }
  if (!isRecord(decoded)) throw malformed();
  return decoded;
}

function malformed(): GatewayError {
  return new GatewayError("identity.token_malformed", "The password is not an OIDC token (a signed JWT).", {
    hint: "Give an OIDC token as the password; `sallyport token` prints one.",
  });
}

function checkHeader(header: Record<string, unknown>, config: IssuerConfig): void {
  const algorithms: readonly string[] = config.algorithms;
  if (typeof header.alg !== "string" || !algorithms.includes(header.alg))
    throw new GatewayError("identity.algorithm_refused", "The token's signature algorithm is not accepted.");
  if (Object.hasOwn(header, "crit"))
    throw new GatewayError("identity.token_malformed", "The token asks for extensions that are not understood.");
  if (header.typ !== undefined && typeof header.typ !== "string") throw malformed();
  const type = header.typ?.toLowerCase().replace(/^application\//, "");
  const accepted = config.profile === "access-token" ? type === "at+jwt" : type === undefined || type === "jwt";
  if (!accepted)
    throw new GatewayError("identity.token_malformed", `The token is not of the kind this issuer is for.`, {
      hint: `This gateway takes its ${config.profile === "access-token" ? "access tokens (at+jwt)" : "ID tokens"}.`,
    });
}

async function verifySignature(
  token: string,
  config: IssuerConfig,
  keys: JWTVerifyGetKey,
  nowMs: number,
): Promise<JWTPayload> {
  try {
    const { payload } = await jwtVerify(token, keys, {
      algorithms: config.algorithms,
      issuer: config.issuer,
      audience: config.audience,
      requiredClaims: ["exp", "iat", "sub", ...(config.profile === "access-token" ? ["client_id"] : [])],
      clockTolerance: config.clock_skew / 1_000,
      currentDate: new Date(nowMs),
    });
    return payload;
  } catch (error) {
    throw refusalOf(error);
  }
}

/** Causes are kept only where jose's message cannot contain a part of the token. */
function refusalOf(error: unknown): GatewayError {
  if (error instanceof GatewayError) return error;
  if (error instanceof errors.JWTExpired) return expired();
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === "aud")
      return new GatewayError("identity.audience_mismatch", "The token is for another audience than this gateway.");
    if (error.claim === "nbf" && error.reason === "check_failed") return notYetValid();
    return claimsInvalid("The token lacks a claim it must have, or has one of the wrong type.");
  }
  if (error instanceof errors.JOSEAlgNotAllowed)
    return new GatewayError("identity.algorithm_refused", "The token's signature algorithm is not accepted.");
  if (error instanceof errors.JWTInvalid || error instanceof errors.JWSInvalid) return malformed();
  return new GatewayError("identity.signature_invalid", "The token's signature could not be verified.", {
    cause: error instanceof errors.JOSEError ? error.code : undefined,
  });
}

function expired(): GatewayError {
  return new GatewayError("identity.expired", "The token has expired.", { hint: "Get a new one: `sallyport token`." });
}

function notYetValid(): GatewayError {
  return new GatewayError("identity.not_yet_valid", "The token is not valid yet.");
}

/**
 * Skew forgives an issuer whose clock is ahead (`nbf`, `iat`). It does not lengthen a token's life: a session ends at
 * `exp`, so one that starts after it would end at once.
 * @returns when the token expires, in milliseconds.
 */
function checkTimes(claims: JWTPayload, config: IssuerConfig, nowMs: number): number {
  const { exp, iat } = claims;
  if (typeof exp !== "number" || !(exp <= expirySecondsMax) || typeof iat !== "number" || !Number.isFinite(iat))
    throw claimsInvalid("The token's times are not valid.");
  const expiresAtMs = Math.floor(exp * 1_000);
  if (nowMs >= expiresAtMs) throw expired();
  if (iat * 1_000 > nowMs + config.clock_skew) throw notYetValid();
  return expiresAtMs;
}

/** `azp`, and `client_id` where the profile has it: to whom the issuer gave the token. */
function checkParties(claims: JWTPayload, config: IssuerConfig): void {
  const mismatch = () =>
    new GatewayError("identity.audience_mismatch", "The token was issued to a party that is not accepted here.");
  const parties: unknown[] = [];
  if (claims.azp !== undefined) parties.push(claims.azp);
  else if (config.profile === "id-token" && Array.isArray(claims.aud) && claims.aud.length > 1) throw mismatch();
  if (config.profile === "access-token") parties.push(claims.client_id);
  for (const party of parties) {
    if (typeof party !== "string" || party === "") throw claimsInvalid("The token's authorised party is not a name.");
    if (config.azp !== undefined && !config.azp.includes(party)) throw mismatch();
  }
}
