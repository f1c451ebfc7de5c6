/** One of the two revisions that are compared: judges recorded sessions and commands as the gateway would have. */
import type { Bundle } from "../../../gateway/policy/bundle.ts";
import type { Decision } from "../../../gateway/policy/decision.ts";
import type { CommandAnalysis, NowInput } from "../../../gateway/policy/input.ts";
import { Policy, type SessionJudge } from "../../../gateway/policy/policy.ts";
import type { CommandRest, SessionBase } from "../../../gateway/policy/visible-input.ts";
import { policyNow } from "../../../gateway/session/clock.ts";
import { deniedByFault } from "../../../gateway/session/denial.ts";
import type { CatalogLabels, Labeller } from "./catalog-labels.ts";
import { type Relabelled, relabel, type TargetLabels, targetLabels } from "./relabel.ts";

/** As the gateway records a command that its policy could not judge. */
function deniedBy(fault: unknown): Decision {
  const decision = deniedByFault(fault);
  const key = JSON.stringify(decision.rules);
  const known = faults.get(key);
  if (known === undefined) faults.set(key, decision);
  return known ?? decision;
}
const faults = new Map<string, Decision>();

const unknown = {};
const unchanged = new WeakMap<CommandAnalysis, Relabelled>();

function asRecorded(analysis: CommandAnalysis): Relabelled {
  let same = unchanged.get(analysis);
  if (same === undefined) {
    same = { likely: analysis, others: [] };
    unchanged.set(analysis, same);
  }
  return same;
}

export class JudgingRevision {
  readonly digest: string;
  /** Parameters are recorded redacted and cut; a policy that sees them may have seen more. */
  readonly seesParams: boolean;
  readonly #policy: Policy;
  readonly #labellers: ReadonlyMap<string, Labeller>;
  readonly #labels = new Map<string, TargetLabels>();
  readonly #catalogLabels = new Map<string, CatalogLabels>();
  /** By the labels then (an object a revision and target), the labels now, and the analysis. */
  readonly #relabelled = new WeakMap<object, WeakMap<TargetLabels, WeakMap<CommandAnalysis, Relabelled>>>();

  /** @param labellers by target's name, where there is a catalog */
  constructor(bundle: Bundle, labellers: ReadonlyMap<string, Labeller>) {
    this.#policy = new Policy(bundle);
    this.#labellers = labellers;
    this.digest = bundle.revision.digest;
    this.seesParams = bundle.commandPaths?.params ?? true;
  }

  labelsOf(target: string): TargetLabels {
    let labels = this.#labels.get(target);
    if (labels === undefined) {
      labels = targetLabels(this.#policy.data, target);
      this.#labels.set(target, labels);
    }
    return labels;
  }

  judgeSession(base: SessionBase, atMs: number): Decision {
    try {
      return this.#policy.judgeSession({ ...base, now: this.#now(atMs) });
    } catch (fault) {
      return deniedBy(fault);
    }
  }

  forSession(base: SessionBase): SessionJudge {
    return this.#policy.forSession(base);
  }

  judge(judge: SessionJudge, analysis: CommandAnalysis, rest: CommandRest, atMs: number): Decision {
    try {
      return judge.judge(analysis, rest, this.#now(atMs)).decision;
    } catch (fault) {
      return deniedBy(fault);
    }
  }

  /** The time as this revision reads it. */
  #now(atMs: number): NowInput {
    return policyNow(atMs, this.#policy.revision.timeZone);
  }

  /** The analysis as this revision's labels make it. @param then labels that it was recorded with, where known */
  relabel(analysis: CommandAnalysis, target: string, then: TargetLabels | undefined): Relabelled {
    const now = this.labelsOf(target);
    if (then === now || then?.key === now.key) return asRecorded(analysis);
    const key = then ?? unknown;
    let known = this.#relabelled.get(key)?.get(now);
    if (known === undefined) {
      known = new WeakMap();
      const byNow = this.#relabelled.get(key) ?? new WeakMap();
      byNow.set(now, known);
      this.#relabelled.set(key, byNow);
    }
    let made = known.get(analysis);
    if (made === undefined) {
      made = relabel(analysis, then, now, this.#labelsInCatalog(target));
      known.set(analysis, made);
    }
    return made;
  }

  #labelsInCatalog(target: string): CatalogLabels | undefined {
    const labeller = this.#labellers.get(target);
    if (labeller === undefined) return undefined;
    let labels = this.#catalogLabels.get(target);
    if (labels === undefined) {
      labels = labeller(this.labelsOf(target).byName);
      this.#catalogLabels.set(target, labels);
    }
    return labels;
  }
}
