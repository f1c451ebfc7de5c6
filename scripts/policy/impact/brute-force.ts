/**
 * What `policy impact` must find, the slow way: every recorded command evaluated by both modules in OPA's own runtime,
 * with nothing cached, shared or skipped. For tests and the benchmark.
 */

import { createClient } from "@libsql/client";
import * as opaModule from "@open-policy-agent/opa-wasm";
import { drizzle } from "drizzle-orm/libsql";
import { type Bundle, entrypoints } from "../../../gateway/policy/bundle.ts";
import type { CommandAnalysis, CommandInput } from "../../../gateway/policy/input.ts";
import { readEvents } from "../../../gateway/recording/reader.ts";
import { readingOf } from "../../../gateway/store/queries.ts";
import { sessions } from "../../../gateway/store/schema.ts";
import { recordedInputs } from "../recorded-input.ts";
import type { Change } from "./replay.ts";

const opa: typeof opaModule = "default" in opaModule ? (opaModule.default as typeof opaModule) : opaModule;

export interface BruteForce {
  readonly store: string;
  readonly base: Bundle;
  readonly head: Bundle;
  /** The analysis that the head's gateway would have made of a command; the recorded one when not given. */
  readonly analyseForHead?: (text: string) => CommandAnalysis;
}

/** By session and command, both sides' verdict, rules and masks of each that is decided otherwise. */
export async function bruteForce(options: BruteForce): Promise<{ commands: number; changed: Map<string, string> }> {
  const evaluate = ({ wasm, data }: Bundle) => {
    const loaded = opa.loadPolicySync(new WebAssembly.Module(new Uint8Array(wasm)), { initial: 16, maximum: 4_096 });
    loaded.setData(data);
    const id = (loaded.entrypoints as unknown as Record<string, number>)[entrypoints.command];
    return (input: CommandInput) =>
      decided((loaded.evaluate(input, id) as [{ result: Parameters<typeof decided>[0] }])[0].result);
  };
  const [base, head] = [evaluate(options.base), evaluate(options.head)];
  const client = createClient({ url: options.store });
  const db = drizzle(client);
  const changed = new Map<string, string>();
  const seen = new Set<string>();
  for (const { id } of await db.select({ id: sessions.id }).from(sessions)) {
    for await (const { intent, input } of recordedInputs(readEvents(readingOf(db), id))) {
      const key = `${id} ${intent.command}`;
      if (input === undefined || seen.has(key)) continue;
      seen.add(key);
      const before = base(input);
      const analysed = options.analyseForHead?.(intent.text);
      const after = head(analysed ? { ...input, command: { ...input.command, ...analysed } } : input);
      if (before !== after) changed.set(key, `${before} -> ${after}`);
    }
  }
  client.close();
  return { commands: seen.size, changed };
}

/** Everything of a decision, in one order. */
function decided({ verdict, rules, masks, diagnostics, approval, obligations }: Change["base"]): string {
  const reasons = rules.map(({ id, message }) => `${id}: ${message}`).sort();
  const shown = masks.map(({ column, with: kind }) => `${column}: ${kind}`).sort();
  const terms = approval && [[...approval.from].sort(), approval.count, approval.ttl];
  const obliged = Object.keys(obligations ?? {}).length > 0;
  return JSON.stringify([verdict, reasons, shown, diagnostics, terms ?? null, obliged ? obligations : null]);
}

/** Keys that only one has, or that differ. */
export function differences(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): string[] {
  return [...new Set([...a.keys(), ...b.keys()])].filter((key) => a.get(key) !== b.get(key)).sort();
}

/** The same of what `policy impact` found. */
export function foundChanges(changes: readonly Change[]): Map<string, string> {
  return new Map(
    changes
      .filter(({ command, kinds }) => command > 0 && kinds.length > 0)
      .map((one) => [`${one.session} ${one.command}`, `${decided(one.base)} -> ${decided(one.head)}`]),
  );
}
