/** Data that policies read: the bundle's own with a deployment's `data.yaml` merged over it. */
import { z } from "zod";
import { GatewayError } from "../errors.ts";
import { type LineOf, parseYamlText, YamlSyntaxError } from "../yaml-text.ts";
import { maskKinds } from "./decision.ts";
import { statementClasses } from "./input.ts";
import { misspelled } from "./misspelled.ts";
import { type DataProblem, rulesData, rulesProblem } from "./rules-data.ts";

/** The gateway's own: what `policies/prepared` makes of the rest. Given by anyone else it could say another thing. */
export const preparedData = "sallyport_prepared";

const names = z.array(z.string());
const json = z.record(z.string(), z.json());

const classes = z.array(z.enum(statementClasses));
/** A name that is a part short, or a word that is misspelled, would loosen without a sign. */
const column = z.string().regex(/^[^.]+(?:\.[^.]+){2,}$/, "names a column as schema.table.column");

/** Takes members of a deployment's own, but none that is a known one misspelled. */
function loose<T extends z.ZodRawShape>(members: T) {
  const known = Object.keys(members);
  return z.looseObject(members).superRefine((value, context) => {
    for (const name of Object.keys(value)) {
      const meant = misspelled(name, known);
      if (meant === undefined) continue;
      context.addIssue({ code: "custom", path: [name], message: `is not known: ${meant} is meant?` });
    }
  });
}

const target = loose({
  access: z.record(z.string(), names).optional(),
  labels: z.record(column, names).optional(),
});
const targets = z.record(z.string(), target).optional();
/** Only what the gateway itself and the default policies read is checked; a deployment may add anything. */
const shape = loose({
  targets,
  labels: z
    .record(z.string(), z.strictObject({ mask: z.enum(maskKinds).optional(), show_to: names.optional() }))
    .optional(),
  agents: z
    .strictObject({ hold: z.array(z.enum([...statementClasses, "novel"])).optional(), deny: classes.optional() })
    .optional(),
  approvers: names.optional(),
  approvals: loose({ count: z.number().optional(), ttl: z.string().optional() }).optional(),
  auditors: names.optional(),
  functions: loose({ allow: names.optional() }).optional(),
  dangerous: loose({
    exempt: names.optional(),
    features: names.optional(),
    functions: names.optional(),
    relations: names.optional(),
    secrets: names.optional(),
    settings_allowed: names.optional(),
  }).optional(),
  ...rulesData,
  [preparedData]: z.never("is made by the gateway").optional(),
});

export type PolicyData = Readonly<Record<string, unknown>>;

/** @param lineOf of the file, where it is one that people wrote. */
function invalid(where: string, problem: DataProblem | undefined, lineOf?: LineOf): GatewayError {
  const { path = [], message, other } = problem ?? {};
  const place = (of: readonly PropertyKey[]) => (lineOf === undefined ? where : `${where}:${lineOf(of)}`);
  const name = path.length === 0 ? "" : `${path.map(String).join(".")}: `;
  const also = other === undefined ? "" : ` (${other.map(String).join(".")} is at ${place(other)})`;
  return new GatewayError("policy.bundle_invalid", `${place(path)}: ${name}${message}${also}`);
}

function plainData(value: unknown, where: string, lineOf?: LineOf): PolicyData {
  const plain = json.safeParse(value);
  if (!plain.success) throw invalid(where, plain.error.issues[0], lineOf);
  return plain.data;
}

/** @param where names the file in the error's message. */
export function checkData(value: unknown, where: string, lineOf?: LineOf): PolicyData {
  const plain = plainData(value, where, lineOf);
  const checked = shape.safeParse(plain);
  const problem = checked.success ? rulesProblem(checked.data) : checked.error.issues[0];
  if (problem !== undefined) throw invalid(where, problem, lineOf);
  return plain;
}

/**
 * A deployment's form is checked once it is merged over the bundle's: until then a part of it may be incomplete.
 * @throws GatewayError policy.bundle_invalid, naming file and line; also where two members of a map have one name
 */
export function parseDataFile(text: string, where: string): { readonly data: PolicyData; readonly lineOf: LineOf } {
  try {
    const { value, lineOf } = parseYamlText(text);
    return { data: plainData(value ?? {}, where, lineOf), lineOf };
  } catch (cause) {
    if (!(cause instanceof YamlSyntaxError)) throw cause;
    const message = `${where}:${cause.line}: is not valid YAML: ${cause.message}`;
    throw new GatewayError("policy.bundle_invalid", message, { cause });
  }
}

export function isMap(value: unknown): value is Record<string, unknown> {
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
  const named = Object.entries(targets.parse(data.targets) ?? {});
  return new Map(named.map(([name, { labels }]) => [name, new Map(Object.entries(labels ?? {}))]));
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

/**
 * Where a deployment's data names targets that its gateway does not have: they may be another gateway's, or misspelt,
 * and then what was meant is neither labelled nor denied.
 */
export function unknownTargets(data: PolicyData, known: ReadonlySet<string>): (string | number)[][] {
  const unknown = (name: unknown) => typeof name === "string" && !name.includes("*") && !known.has(name);
  const named = isMap(data.targets) ? Object.keys(data.targets).filter(unknown) : [];
  const rules = Object.entries(isMap(data.rules) ? data.rules : {}).flatMap(([rule, value]) => {
    const on = isMap(value) && isMap(value.on) && Array.isArray(value.on.targets) ? value.on.targets : [];
    return on.flatMap((name, index) => (unknown(name) ? [["rules", rule, "on", "targets", index]] : []));
  });
  return [...named.map((name) => ["targets", name]), ...rules];
}
