/** What becomes of one command when another revision judges it. */
import {
  type Decision,
  type MaskKind,
  maskKinds,
  type Obligations,
  type RateLimit,
} from "../../../gateway/policy/decision.ts";

/** In the order of reports. A command can be of several kinds. */
export const changeKinds = {
  allow: "newly allowed: denied before, now runs or may run once it is approved",
  unmask: "newly unmasked: a column is shown that was masked, or by a weaker mask",
  release: "no longer held: waited for approval before, now runs at once",
  approval: "other terms of approval: who may approve, how many, or how long",
  loosen: "a limit, a rate, a timeout or read-only is gone, or wider",
  errors: "errors in full: shown without values before",
  deny: "newly denied",
  mask: "newly masked: a column is masked that was shown, or by a stronger mask",
  hold: "newly held for approval",
  tighten: "a limit, a rate, a timeout or read-only is new, or narrower",
  other: "only the rules, their messages or how errors are shown differ",
} as const;
export type ChangeKind = keyof typeof changeKinds;

export interface MaskChange {
  /** schema.table.column */
  readonly column: string;
  readonly base: MaskKind | "clear";
  readonly head: MaskKind | "clear";
}

export interface KindOfChange {
  readonly kind: ChangeKind;
  /** Rules that make the difference: of the head where it is stricter, of the base where it was. */
  readonly rules: readonly string[];
  readonly masks: readonly MaskChange[];
}

/** From the strongest; a column in clear is weaker than any mask. */
const strength = (mask: MaskKind | "clear") => (mask === "clear" ? maskKinds.length : maskKinds.indexOf(mask));
const ids = (decision: Decision) => [...new Set(decision.rules.map(({ id }) => id))];
const canRun = (decision: Decision) => decision.verdict !== "deny";
const known = new WeakMap<Decision, WeakMap<Decision, readonly KindOfChange[]>>();

/** Empty where nothing differs. Decisions are frozen and shared, so that most pairs are known. */
export function changesBetween(base: Decision, head: Decision): readonly KindOfChange[] {
  let byHead = known.get(base);
  if (byHead === undefined) {
    byHead = new WeakMap();
    known.set(base, byHead);
  }
  let changes = byHead.get(head);
  if (changes === undefined) {
    changes = compare(base, head);
    byHead.set(head, changes);
  }
  return changes;
}

function compare(base: Decision, head: Decision): KindOfChange[] {
  if (base === head || Bun.deepEquals(base, head)) return [];
  const changes: KindOfChange[] = [];
  const add = (kind: ChangeKind, rules: readonly string[], masks: readonly MaskChange[] = []) =>
    changes.push({ kind, rules, masks });
  const [before, after] = [base.verdict, head.verdict];
  if (before === "deny" && after !== "deny") add("allow", ids(base));
  if (before !== "deny" && after === "deny") add("deny", ids(head));
  if (before !== "approve" && after === "approve") add("hold", ids(head));
  if (before === "approve" && after !== "approve" && after !== "deny") add("release", ids(base));
  if (before === "approve" && after === "approve" && !Bun.deepEquals(base.approval, head.approval))
    add("approval", ids(head));
  if (canRun(base) && canRun(head)) {
    const masks = maskChanges(base, head);
    const weaker = masks.filter((one) => strength(one.head) > strength(one.base));
    const stronger = masks.filter((one) => strength(one.head) < strength(one.base));
    if (weaker.length > 0) add("unmask", maskRules(base, weaker), weaker);
    if (stronger.length > 0) add("mask", maskRules(head, stronger), stronger);
    const { loosened, tightened } = obligationChanges(base.obligations ?? {}, head.obligations ?? {});
    if (loosened.length > 0) add("loosen", loosened);
    if (tightened.length > 0) add("tighten", tightened);
    if (base.diagnostics === "canonical" && head.diagnostics === "full") add("errors", ids(head));
  }
  if (changes.length === 0) add("other", [...new Set([...ids(base), ...ids(head)])]);
  return changes;
}

function maskChanges(base: Decision, head: Decision): MaskChange[] {
  const before = new Map(base.masks.map((mask) => [mask.column, mask.with]));
  const after = new Map(head.masks.map((mask) => [mask.column, mask.with]));
  return [...new Set([...before.keys(), ...after.keys()])]
    .sort()
    .map((column) => ({ column, base: before.get(column) ?? "clear", head: after.get(column) ?? "clear" }) as const)
    .filter((one) => one.base !== one.head);
}

/** Rules of the side that asks for more. A rate is its own: another of the same rule is one gone and one new. */
function obligationChanges(base: Obligations, head: Obligations) {
  const loosened = new Set<string>();
  const tightened = new Set<string>();
  const compareBounds = <T extends { readonly rule: string }>(
    before: T | undefined,
    after: T | undefined,
    measure: (bound: T) => number,
  ) => {
    const value = (bound: T | undefined) => (bound ? measure(bound) : Number.POSITIVE_INFINITY);
    if (before && value(before) < value(after)) loosened.add(before.rule);
    if (after && value(after) < value(before)) tightened.add(after.rule);
  };
  compareBounds(base.limit, head.limit, ({ rows }) => rows);
  compareBounds(base.timeout, head.timeout, ({ ms }) => ms);
  compareBounds(base.read_only, head.read_only, () => 0);
  const text = (rate: RateLimit) => `${rate.commands} ${rate.per_ms} ${rate.rule}`;
  const before = new Map((base.rates ?? []).map((rate) => [text(rate), rate.rule]));
  const after = new Map((head.rates ?? []).map((rate) => [text(rate), rate.rule]));
  for (const [rate, rule] of before) if (!after.has(rate)) loosened.add(rule);
  for (const [rate, rule] of after) if (!before.has(rate)) tightened.add(rule);
  return { loosened: [...loosened], tightened: [...tightened] };
}

function maskRules({ masks, rules }: Decision, changed: readonly MaskChange[]): string[] {
  const columns = new Set(changed.map(({ column }) => column));
  const named = masks.filter(({ column }) => columns.has(column)).flatMap(({ rule }) => rule ?? []);
  return named.length > 0 ? [...new Set(named)] : rules.map(({ id }) => id);
}
