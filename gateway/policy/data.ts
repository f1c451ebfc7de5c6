/** Data that policies read: the bundle's own with a deployment's `data.yaml` merged over it. */
import { parse } from "yaml";
import { z } from "zod";
import { GatewayError } from "../errors.ts";
import { maskKinds } from "./decision.ts";
import { rulesData, rulesProblem } from "./rules-data.ts";

/** The gateway's own: what `policies/prepared` makes of the rest. Given by anyone else it could say another thing. */
export const preparedData = "sallyport_prepared";

const names = z.array(z.string());
const json = z.record(z.string(), z.json());

/** Only what the gateway itself and the default policies read is checked; a deployment may add anything. */
const shape = z.looseObject({
  targets: z
    .record(
      z.string(),
      z.looseObject({
        access: z.record(z.string(), names).optional(),
        labels: z.record(z.string(), names).optional(),
      }),
    )
    .optional(),
  labels: z
    .record(z.string(), z.looseObject({ mask: z.enum(maskKinds).optional(), show_to: names.optional() }))
    .optional(),
  agents: z.looseObject({ hold: names.optional(), deny: names.optional() }).optional(),
  approvers: names.optional(),
  ...rulesData,
  [preparedData]: z.never("is made by the gateway").optional(),
});

export type PolicyData = Readonly<Record<string, unknown>>;

function invalid(where: string, issue: { path: readonly PropertyKey[]; message: string } | undefined): GatewayError {
  const path = issue?.path.map(String).join(".") ?? "";
  return new GatewayError("policy.bundle_invalid", `${where}: ${path === "" ? "" : `${path}: `}${issue?.message}`);
}

function plainData(value: unknown, where: string): PolicyData {
  const plain = json.safeParse(value);
  if (!plain.success) throw invalid(where, plain.error.issues[0]);
  return plain.data;
}

/** @param where names the file in the error's message. */
export function checkData(value: unknown, where: string): PolicyData {
  const plain = plainData(value, where);
  const checked = shape.safeParse(plain);
  const problem = checked.success ? rulesProblem(checked.data) : checked.error.issues[0];
  if (problem !== undefined) throw invalid(where, problem);
  return plain;
}

/** Its form is checked once it is merged over the bundle's: until then a part of it may be incomplete. */
export function parseDeploymentData(text: string, where: string): PolicyData {
  let value: unknown;
  try {
    value = parse(text) ?? {};
  } catch (cause) {
    throw new GatewayError("policy.bundle_invalid", `${where} is not valid YAML`, { cause });
  }
  return plainData(value, where);
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Maps merge key by key; lists and scalars of `over` replace those of `base`. */
export function mergeData(base: PolicyData, over: PolicyData): PolicyData {
  const merged = new Map(Object.entries(base));
  for (const [key, value] of Object.entries(over)) {
    const before = merged.get(key);
    merged.set(key, isMap(before) && isMap(value) ? mergeData(before, value) : value);
  }
  return Object.fromEntries(merged);
}

/** JSON with sorted keys: equal data has equal text however its file was written. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (!isMap(value)) return JSON.stringify(value);
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(",")}}`;
}

/** By target: labels by schema.table.column, as `targets.<name>.labels` says them. */
export function labelsByTarget(data: PolicyData): ReadonlyMap<string, ReadonlyMap<string, string[]>> {
  const targets = Object.entries(shape.parse(data).targets ?? {});
  return new Map(targets.map(([name, { labels }]) => [name, new Map(Object.entries(labels ?? {}))]));
}

type Labels = ReadonlyMap<string, readonly string[]>;

const labelTexts = new WeakMap<Labels, string>();

function textOf(labels: Labels): string {
  const known = labelTexts.get(labels);
  if (known !== undefined) return known;
  const text = JSON.stringify([...labels].sort(([a], [b]) => (a < b ? -1 : 1)));
  labelTexts.set(labels, text);
  return text;
}

/** Whether two policies label one target alike. */
export function sameLabels(a: Labels, b: Labels): boolean {
  return a === b || (a.size === b.size && textOf(a) === textOf(b));
}
