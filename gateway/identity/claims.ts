/**
 * Turns the claims of a verified token into the identity that policy sees. Claims are untrusted data even when signed:
 * what is present but not of its documented shape is refused, never guessed at.
 */
import type { IssuerConfig } from "../config.ts";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { IdentityInput, IdentityKind } from "../policy/input.ts";
import { isRecord } from "./discovery.ts";

type Claims = Readonly<Record<string, unknown>>;

const subjectCharactersMax = 255;
const emailCharactersMax = 320;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
const controlCharacter = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;

export function claimsInvalid(message: string): GatewayError {
  return new GatewayError("identity.claims_invalid", message);
}

/**
 * A claim by its path ("realm_access.roles"). A claim whose whole name is the path wins, since names that are
 * addresses ("https://example.com/groups") contain dots.
 */
export function claimAt(claims: Claims, path: string): unknown {
  if (Object.hasOwn(claims, path)) return claims[path];
  let value: unknown = claims;
  for (const step of path.split(".")) {
    if (!isRecord(value) || !Object.hasOwn(value, step)) return undefined;
    value = value[step];
  }
  return value;
}

/** Matches the whole text; `*` is any run of characters. Takes time in proportion to pattern times text at worst. */
export function matchesGlob(text: string, pattern: string): boolean {
  let at = 0;
  let patternAt = 0;
  let star = -1;
  let resumeAt = 0;
  while (at < text.length) {
    if (pattern[patternAt] === "*") {
      star = patternAt++;
      resumeAt = at;
    } else if (pattern[patternAt] === text[at]) {
      patternAt++;
      at++;
    } else if (star >= 0) {
      patternAt = star + 1;
      at = ++resumeAt;
    } else {
      return false;
    }
  }
  while (pattern[patternAt] === "*") patternAt++;
  return patternAt === pattern.length;
}

/** Freezes in place. Refuses nesting past `claimDepthMax` and text that is not Unicode (policy could not read it). */
function freezeClaims(value: unknown, depth: number): void {
  if (typeof value === "string" && !value.isWellFormed()) throw claimsInvalid("The token's claims are not Unicode.");
  if (typeof value !== "object" || value === null) return;
  if (depth >= limits.claimDepthMax) throw claimsInvalid("The token's claims are nested too deeply.");
  for (const [name, member] of Object.entries(value)) {
    if (!name.isWellFormed()) throw claimsInvalid("The token's claims are not Unicode.");
    freezeClaims(member, depth + 1);
  }
  Object.freeze(value);
}

function readSubject(claims: Claims): string {
  const subject = claims.sub;
  if (typeof subject !== "string" || subject === "" || subject.length > subjectCharactersMax)
    throw claimsInvalid("The token has no usable subject.");
  if (controlCharacter.test(subject)) throw claimsInvalid("The token's subject contains control characters.");
  return subject;
}

/** Empty unless it is text that the issuer does not call unverified. */
function readEmail(claims: Claims): string {
  const { email, email_verified: verified } = claims;
  if (typeof email !== "string" || (verified !== undefined && verified !== true && verified !== "true")) return "";
  if (email.length > emailCharactersMax || controlCharacter.test(email))
    throw claimsInvalid("The token's e-mail is not usable.");
  return email;
}

/** OpenID Connect Core 5.6.2: the issuer left the claim, or what it is in, out of the token. */
function isByReference({ _claim_names: names }: Claims, path: string): boolean {
  return isRecord(names) && [path, path.split(".")[0] ?? ""].some((name) => Object.hasOwn(names, name));
}

function readGroups(claims: Claims, path: string): readonly string[] {
  const value = claimAt(claims, path);
  // No groups is not what it says.
  if (value === undefined && isByReference(claims, path))
    throw claimsInvalid("The token names its groups by reference, which is not supported.");
  if (value === undefined || value === null) return Object.freeze([]);
  const groups: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (groups.length > limits.groupsMax) throw claimsInvalid("The token has too many groups.");
  const names = groups.filter((group) => typeof group === "string" && group !== "" && !controlCharacter.test(group));
  if (names.length !== groups.length) throw claimsInvalid("The token's groups are not a list of names.");
  return Object.freeze([...new Set(names as string[])]);
}

/** A flag or a number is compared as JSON spells it. What it cannot be compared with makes nobody a person. */
function readKind(claims: Claims, agents: IssuerConfig["agents"]): IdentityKind {
  if (agents === undefined) return "human";
  const value = claimAt(claims, agents.claim);
  if (value === undefined && isByReference(claims, agents.claim))
    throw claimsInvalid("The token says by reference whether it is an agent's, which is not supported.");
  if (value === undefined || value === null) return "human";
  const values: readonly unknown[] = Array.isArray(value) ? value : [value];
  const isAgent = values.some((one) => {
    if (typeof one === "object") throw claimsInvalid("The token's claim of who is an agent is no text.");
    return agents.values.some((pattern) => matchesGlob(String(one), pattern));
  });
  return isAgent ? "agent" : "human";
}

/** @param claims of a token whose signature and registered claims were verified; frozen in place. */
export function identityFromClaims(claims: Record<string, unknown>, config: IssuerConfig): IdentityInput {
  freezeClaims(claims, 0);
  return Object.freeze({
    issuer: config.issuer,
    subject: readSubject(claims),
    email: readEmail(claims),
    groups: readGroups(claims, config.groups_claim),
    kind: readKind(claims, config.agents),
    claims,
  });
}
