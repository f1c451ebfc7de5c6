/**
 * The form of `rules`, `windows` and `timezone` in a policy's data. A key that is not known is refused: a rule with a
 * misspelt condition would apply to more than it says.
 */
import { z } from "zod";
import { approvalTtl, limitRows, rateCommands } from "./decision.ts";
import { statementClasses } from "./input.ts";

const names = z.array(z.string().min(1)).min(1);
const classes = z.array(z.enum(statementClasses)).min(1);
const duration = z.string().regex(/^[1-9][0-9]{0,5}(ms|s|m|h)$/, "expected a duration such as 500ms, 30s, 15m or 2h");
const ttl = z.string().regex(approvalTtl, "expected a duration such as 90s, 15m or 2h");
const weekdays = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"] as const;
const from = z.string().regex(/^([01][0-9]|2[0-3]):[0-5][0-9]$/, "expected a time such as 08:30");
const to = z.string().regex(/^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$/, "expected a time such as 18:00, at most 24:00");

const window = z
  .strictObject({ days: z.array(z.enum(weekdays)).min(1).optional(), from, to })
  .refine((one) => one.from !== one.to, "is open at no time: from and to are the same");

const hold = z.strictObject({
  message: z.string().min(1).optional(),
  from: names.optional(),
  count: z.int().min(1).max(10).optional(),
  ttl: ttl.optional(),
});

const rule = z
  .strictObject({
    for: z
      .strictObject({ kind: z.enum(["human", "agent"]), groups: names, identities: names })
      .partial()
      .optional(),
    on: z
      .strictObject({ targets: names, labels: z.record(z.string(), z.string()), classes, relations: names })
      .partial()
      .optional(),
    within: z.string().optional(),
    outside: z.string().optional(),
    grant: classes.optional(),
    deny: z.string().min(1).max(2_000).optional(),
    hold: hold.optional(),
    limit: limitRows.optional(),
    timeout: duration.optional(),
    read_only: z.literal(true).optional(),
    rate: z.strictObject({ commands: rateCommands, per: duration }).optional(),
  })
  .refine(
    ({ for: _who, on: _where, within: _within, outside: _outside, ...what }) => Object.keys(what).length > 0,
    "says nothing: give grant, deny, hold, limit, timeout, read_only or rate",
  )
  .refine(
    ({ grant, on }) => grant === undefined || (on?.classes === undefined && on?.relations === undefined),
    "grants classes on a whole target: on.classes and on.relations do not go with grant",
  )
  .refine(
    ({ grant, for: who }) => grant === undefined || who?.groups !== undefined || who?.identities !== undefined,
    "grants to everyone: name groups or identities",
  );

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en-US", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

/** Members of a policy's data that are of these names. */
export const rulesData = {
  timezone: z.string().refine(isTimeZone, "is no time zone: expected a name such as Europe/Berlin").optional(),
  windows: z.record(z.string(), window).optional(),
  rules: z.record(z.string().regex(/^[\w.-]{1,100}$/, "expected a name of letters, digits, . _ -"), rule).optional(),
};

interface RulesData {
  readonly windows?: Readonly<Record<string, unknown>> | undefined;
  readonly rules?: Readonly<Record<string, z.infer<typeof rule>>> | undefined;
  readonly approvers?: readonly string[] | undefined;
}

export interface DataProblem {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  /** What it disagrees with. */
  readonly other?: readonly PropertyKey[];
}

/** What is wrong between parts that are each of the right form. */
export function rulesProblem({ windows = {}, rules = {}, approvers = [] }: RulesData): DataProblem | undefined {
  const entries = Object.entries(rules);
  for (const [name, { within, outside }] of entries) {
    for (const given of [within, outside]) {
      if (given !== undefined && !Object.hasOwn(windows, given))
        return { path: ["rules", name], message: `windows has no "${given}"` };
    }
  }
  return approvalConflict(entries, approvers);
}

/** Two rules that hold the very same commands and name no approver in common would make each of them a denial. */
function approvalConflict(
  rules: readonly (readonly [string, z.infer<typeof rule>])[],
  approvers: readonly string[],
): DataProblem | undefined {
  const seen = new Map<string, { readonly name: string; readonly from: readonly string[] }[]>();
  for (const [name, { for: who, on: where, within, outside, hold: terms }] of rules) {
    if (terms === undefined) continue;
    const groups = terms.from ?? approvers;
    const selection = JSON.stringify([who, where, within, outside]);
    const others = seen.get(selection) ?? [];
    const conflict = others.find((other) => !other.from.some((group) => groups.includes(group)));
    if (conflict) {
      return {
        path: ["rules", name],
        other: ["rules", conflict.name],
        message: `holds what rules.${conflict.name} holds, and nobody may approve for both: ${groups.join(", ")} here, ${conflict.from.join(", ")} there`,
      };
    }
    seen.set(selection, [...others, { name, from: groups }]);
  }
  return undefined;
}
