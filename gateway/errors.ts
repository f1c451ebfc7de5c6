/**
 * The one error type of the gateway and the table that says how each code reaches a client.
 * A denial is a value (see `policy/decision.ts`), not an error; a `GatewayError` is a fault or a refusal of input.
 * `publicMessage` goes to clients and logs: it never contains a secret. Internal detail goes to `cause`.
 */
export type ErrorCode =
  | "config.invalid"
  | "identity.token_missing"
  | "identity.token_too_large"
  | "identity.token_malformed"
  | "identity.issuer_unknown"
  | "identity.signature_invalid"
  | "identity.algorithm_refused"
  | "identity.audience_mismatch"
  | "identity.expired"
  | "identity.not_yet_valid"
  | "identity.claims_invalid"
  | "identity.keys_unavailable"
  | "identity.user_mismatch"
  | "policy.bundle_invalid"
  | "policy.signature_invalid"
  | "policy.unavailable"
  | "policy.input_too_large"
  | "policy.evaluation_failed"
  | "policy.decision_invalid"
  | "policy.timeout"
  | "session.target_unknown"
  | "session.denied"
  | "session.draining"
  | "session.too_many"
  | "session.expired"
  | "store.unavailable"
  | "recording.failed"
  | "recording.lagging"
  | "approval.not_found"
  | "approval.forbidden"
  | "approval.not_pending"
  | "approval.too_many"
  | "approval.denied"
  | "approval.expired"
  | "upstream.unreachable"
  | "upstream.tls"
  | "upstream.authentication"
  | "upstream.protocol"
  | "upstream.version"
  | "protocol.malformed"
  | "protocol.too_large"
  | "protocol.timeout"
  | "protocol.unsupported"
  | "protocol.tls_required"
  | "protocol.parameter_refused"
  | "api.unauthenticated"
  | "api.forbidden"
  | "api.invalid"
  | "api.not_found"
  | "api.busy"
  | "internal";

export class GatewayError extends Error {
  readonly code: ErrorCode;
  /** What the reader should do about it; shown as HINT by PostgreSQL clients. */
  readonly hint: string | undefined;

  /** @param publicMessage free of secrets; it is shown to the caller. */
  constructor(code: ErrorCode, publicMessage: string, options: { hint?: string; cause?: unknown } = {}) {
    super(publicMessage, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "GatewayError";
    this.code = code;
    this.hint = options.hint;
  }
}

interface Rendering {
  /** PostgreSQL SQLSTATE, five characters (Appendix A of its manual). */
  readonly sqlstate: string;
  readonly http: 400 | 401 | 403 | 404 | 409 | 413 | 429 | 500 | 502 | 503 | 504;
}

/** How each code is spelled in each protocol. */
export const renderings: Readonly<Record<ErrorCode, Rendering>> = {
  "config.invalid": { sqlstate: "F0000", http: 500 },
  "identity.token_missing": { sqlstate: "28000", http: 401 },
  "identity.token_too_large": { sqlstate: "28000", http: 401 },
  "identity.token_malformed": { sqlstate: "28P01", http: 401 },
  "identity.issuer_unknown": { sqlstate: "28P01", http: 401 },
  "identity.signature_invalid": { sqlstate: "28P01", http: 401 },
  "identity.algorithm_refused": { sqlstate: "28P01", http: 401 },
  "identity.audience_mismatch": { sqlstate: "28P01", http: 401 },
  "identity.expired": { sqlstate: "28P01", http: 401 },
  "identity.not_yet_valid": { sqlstate: "28P01", http: 401 },
  "identity.claims_invalid": { sqlstate: "28P01", http: 401 },
  "identity.keys_unavailable": { sqlstate: "58000", http: 503 },
  "identity.user_mismatch": { sqlstate: "28000", http: 403 },
  "policy.bundle_invalid": { sqlstate: "F0000", http: 500 },
  "policy.signature_invalid": { sqlstate: "F0000", http: 500 },
  "policy.unavailable": { sqlstate: "F0000", http: 503 },
  "policy.input_too_large": { sqlstate: "54000", http: 413 },
  "policy.evaluation_failed": { sqlstate: "42501", http: 500 },
  "policy.decision_invalid": { sqlstate: "42501", http: 500 },
  "policy.timeout": { sqlstate: "42501", http: 500 },
  "session.target_unknown": { sqlstate: "3D000", http: 404 },
  "session.denied": { sqlstate: "42501", http: 403 },
  "session.draining": { sqlstate: "57P01", http: 503 },
  "session.too_many": { sqlstate: "53300", http: 429 },
  "session.expired": { sqlstate: "57P01", http: 401 },
  "store.unavailable": { sqlstate: "58030", http: 503 },
  "recording.failed": { sqlstate: "58030", http: 503 },
  "recording.lagging": { sqlstate: "58030", http: 503 },
  "approval.not_found": { sqlstate: "42704", http: 404 },
  "approval.forbidden": { sqlstate: "42501", http: 403 },
  "approval.not_pending": { sqlstate: "55000", http: 409 },
  "approval.too_many": { sqlstate: "53400", http: 429 },
  "approval.denied": { sqlstate: "42501", http: 403 },
  "approval.expired": { sqlstate: "42501", http: 409 },
  "upstream.unreachable": { sqlstate: "08006", http: 502 },
  "upstream.tls": { sqlstate: "08006", http: 502 },
  "upstream.authentication": { sqlstate: "08006", http: 502 },
  "upstream.protocol": { sqlstate: "08P01", http: 502 },
  "upstream.version": { sqlstate: "0A000", http: 502 },
  "protocol.malformed": { sqlstate: "08P01", http: 400 },
  "protocol.too_large": { sqlstate: "54000", http: 413 },
  "protocol.timeout": { sqlstate: "57014", http: 504 },
  "protocol.unsupported": { sqlstate: "0A000", http: 400 },
  "protocol.tls_required": { sqlstate: "28000", http: 403 },
  "protocol.parameter_refused": { sqlstate: "22023", http: 400 },
  "api.unauthenticated": { sqlstate: "28000", http: 401 },
  "api.forbidden": { sqlstate: "42501", http: 403 },
  "api.invalid": { sqlstate: "22023", http: 400 },
  "api.not_found": { sqlstate: "42704", http: 404 },
  "api.busy": { sqlstate: "53400", http: 429 },
  internal: { sqlstate: "XX000", http: 500 },
};
