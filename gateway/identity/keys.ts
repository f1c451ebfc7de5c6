/**
 * One issuer's public keys: read at first use, read again when they age or when a token names a key that is not there
 * (rotation), the latter at most once a cooldown so that made-up key ids cannot make the gateway hammer its issuer.
 */
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from "jose";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { discover, type Fetch, fetchDocument } from "./discovery.ts";

export interface IssuerKeysOptions {
  readonly issuer: string;
  /** Overrides discovery. */
  readonly jwksUri?: string;
  readonly fetch: Fetch;
  readonly now: () => number;
  readonly log?: (message: string, fields: Record<string, unknown>) => void;
}

type KeySet =
  | { readonly state: "absent" }
  | { readonly state: "present"; readonly keys: JWTVerifyGetKey; readonly readAtMs: number };

/** A key source for jose that keeps to the limits above. An unreachable issuer is a refusal once its keys are too old. */
export function createIssuerKeys(options: IssuerKeysOptions): JWTVerifyGetKey {
  let current: KeySet = { state: "absent" };
  let pending: Promise<void> | undefined;
  let failure: { readonly atMs: number; readonly error: unknown } | undefined;
  let attemptedAtMs = Number.NEGATIVE_INFINITY;

  async function read(): Promise<void> {
    attemptedAtMs = options.now();
    try {
      const jwksUri = options.jwksUri ?? (await discover(options.issuer, options.fetch)).jwksUri;
      const document = await fetchDocument(jwksUri, "key set", options.fetch);
      // jose checks the shape and throws where it is not a key set.
      const keys = createLocalJWKSet(document as unknown as JSONWebKeySet);
      current = { state: "present", keys, readAtMs: options.now() };
      failure = undefined;
    } catch (cause) {
      const error =
        cause instanceof GatewayError
          ? cause
          : new GatewayError("identity.keys_unavailable", "The identity provider's key set is not valid.", { cause });
      failure = { atMs: options.now(), error };
      options.log?.("issuer keys could not be read", {
        issuer: options.issuer,
        problem: error.message,
        cause: error.cause instanceof Error ? error.cause.message : undefined,
      });
      throw error;
    }
  }

  /** Callers that arrive during a read share it. */
  function refresh(): Promise<void> {
    pending ??= read().finally(() => {
      pending = undefined;
    });
    return pending;
  }

  async function fresh(): Promise<Extract<KeySet, { state: "present" }>> {
    if (current.state === "present" && options.now() - current.readAtMs < limits.jwksMaxAgeMs) return current;
    if (failure !== undefined && options.now() - failure.atMs < limits.identityRetryMs) throw failure.error;
    await refresh();
    if (current.state !== "present") throw new GatewayError("internal", "Issuer keys are missing after a read.");
    return current;
  }

  return async (header, token) => {
    const known = await fresh();
    try {
      return await known.keys(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      if (pending === undefined && options.now() - attemptedAtMs < limits.jwksCooldownMs) throw error;
      await refresh();
      return (await fresh()).keys(header, token);
    }
  };
}
