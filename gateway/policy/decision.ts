/** What a policy answers. Anything that does not fit this schema is a deny (`policy.decision_invalid`). */
import { z } from "zod";

export const maskKinds = ["redact", "null", "partial", "hash"] as const;
/** From strongest to weakest: several masks on one column resolve to the first of these. */
export type MaskKind = "redact" | "null" | "partial" | "hash";

const rule = z.strictObject({ id: z.string().min(1).max(200), message: z.string().max(2_000) });
const mask = z.strictObject({
  /** schema.table.column as the catalog spells them. */
  column: z.string().min(1).max(400),
  with: z.enum(maskKinds),
  rule: z.string().max(200).optional(),
});
/** A policy's data says these in the same form. */
export const approvalTtl = /^[1-9][0-9]{0,5}[smh]$/;
export const limitRows = z.int().min(1).max(1_000_000_000);
export const rateCommands = z.int().min(1).max(10_000);

const approval = z.strictObject({
  /** Groups whose members may decide. */
  from: z.array(z.string().min(1)).min(1).max(100),
  count: z.int().min(1).max(10),
  /** e.g. "90s", "15m", "2h". */
  ttl: z.string().regex(approvalTtl),
});

const by = z.string().min(1).max(200);
const obligations = z.strictObject({
  /** At most so many rows of one command's results reach the caller, who is told that there were more. */
  limit: z.strictObject({ rows: limitRows, rule: by }).optional(),
  /** The target ends each statement after this long. */
  timeout: z.strictObject({ ms: z.int().min(100).max(86_400_000), rule: by }).optional(),
  /** The target runs it in a read-only transaction. */
  read_only: z.strictObject({ rule: by }).optional(),
  /** Of one identity on one target: at most so many commands in any span of `per_ms`. */
  rates: z
    .array(z.strictObject({ commands: rateCommands, per_ms: z.int().min(100).max(86_400_000), rule: by }))
    .max(100)
    .optional(),
});

export const decisionSchema = z.strictObject({
  verdict: z.enum(["allow", "deny", "mask", "approve"]),
  rules: z.array(rule).max(1_000),
  masks: z.array(mask).max(10_000),
  approval: approval.optional(),
  /** What the gateway has to see to where the command runs. */
  obligations: obligations.optional(),
  /** canonical: errors and notices reach the caller without values; full: as the target wrote them. */
  diagnostics: z.enum(["full", "canonical"]),
});

export type Verdict = "allow" | "deny" | "mask" | "approve";
export type Rule = z.infer<typeof rule>;
export type Mask = z.infer<typeof mask>;
export type ApprovalRequirement = z.infer<typeof approval>;
/** Each names the rule that asked for it. */
export type Obligations = z.infer<typeof obligations>;
export type RateLimit = NonNullable<Obligations["rates"]>[number];
/**
 * `approve` may carry masks too: they apply once it is approved.
 * `verdict: "mask"` has at least one mask; `verdict: "approve"` has `approval`.
 */
export type Decision = z.infer<typeof decisionSchema>;

/** Which policy spoke: digest of the bundle's sources, and the git commit where it is known. */
export interface Revision {
  /** sha256:<hex> */
  readonly digest: string;
  readonly commit?: string;
  /** IANA name of the zone that the policy's data reads the time in; UTC where there is none. */
  readonly timeZone?: string;
}
