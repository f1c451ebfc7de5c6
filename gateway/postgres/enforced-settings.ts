/**
 * Settings of the target's session that policy obliges commands to run under: `statement_timeout` and read-only
 * transactions. The gateway sets them by a statement of its own before such a command, and again whenever anything may
 * have changed them since; a caller's own stricter value stays, and its looser one comes back once nothing obliges.
 */
import type { Obligations } from "../policy/decision.ts";
import type { CommandAnalysis, StatementInput } from "../policy/input.ts";

interface Wanted {
  readonly timeoutMs: number | undefined;
  readonly readOnly: boolean;
}

function wantedBy(obligations: Obligations | undefined): Wanted {
  return { timeoutMs: obligations?.timeout?.ms, readOnly: obligations?.read_only !== undefined };
}
const obliges = ({ timeoutMs, readOnly }: Wanted) => timeoutMs !== undefined || readOnly;

/** A setting as the caller would have it, and as the gateway set it: both as the target spells them. */
interface Known {
  readonly own: string;
  readonly ours: string;
}

const writesSettings = /^(?:set:|reset|discard$|do$|call|transaction\.read_write$)/;

/** Whether a statement can do nothing to a setting: neither by itself nor by a function or trigger it calls. */
function isSteady(statement: StatementInput): boolean {
  return statement.class === "read" && !callsUnknown(statement) && !statement.features.some(isWriting);
}
const isWriting = (feature: string) => writesSettings.test(feature);

function callsUnknown({ functions }: StatementInput): boolean {
  return functions.some((name) => !name.startsWith("pg_catalog.") || name === "pg_catalog.set_config");
}

/**
 * A statement that could lift an obligation from those behind it in one message, where the gateway cannot set it again.
 * What only a trigger could do is not among them: SECURITY.md names it.
 */
function couldLift(statement: StatementInput): boolean {
  const undoes = statement.class === "transaction" && statement.verb.startsWith("ROLLBACK");
  return undoes || callsUnknown(statement) || statement.features.some((one) => liftingFeature.test(one));
}
const liftingFeature =
  /^(?:(?:set|reset):(?:statement_timeout|(?:default_)?transaction_read_only)$|reset\.all$|discard$|do$|call|transaction\.read_write$)/;

const steady = new WeakMap<CommandAnalysis, boolean>();

function changesNothing(analysis: CommandAnalysis): boolean {
  let known = steady.get(analysis);
  if (known === undefined) {
    known = analysis.complete && analysis.statements.every(isSteady);
    steady.set(analysis, known);
  }
  return known;
}

/**
 * Whether a command of several statements could run some of them without what policy obliges it to.
 * @param count of its statements; `statements` has those of prepared ones behind them
 */
export function escapesObligations(
  { statements }: CommandAnalysis,
  count: number,
  obligations: Obligations | undefined,
): boolean {
  return count > 1 && obliges(wantedBy(obligations)) && statements.some(couldLift);
}

export class EnforcedSettings {
  /** What was last set, or is on its way. */
  #set = wantedBy(undefined);
  #timeout: Known | undefined;
  #readOnly: Known | undefined;
  /** Something may have changed the settings since. */
  #uncertain = true;
  /** The target has not yet said what the last statement found. */
  pending = false;

  /** A command goes to the target. */
  noteForwarded(analysis: CommandAnalysis): void {
    if (!this.#uncertain && !changesNothing(analysis)) this.#uncertain = true;
  }

  /** A statement failed: what its transaction set is taken back. */
  noteError(): void {
    this.#uncertain = true;
  }

  /** Whether a statement of the gateway's has to run before a command with these obligations. */
  isDue(obligations: Obligations | undefined): boolean {
    const wanted = wantedBy(obligations);
    if (!obliges(wanted) && this.#timeout === undefined && this.#readOnly === undefined && !this.pending) return false;
    const same = wanted.timeoutMs === this.#set.timeoutMs && wanted.readOnly === this.#set.readOnly;
    return !same || this.#uncertain;
  }

  /** @returns SQL that sets what these obligations want; it counts as on its way. */
  take(obligations: Obligations | undefined): string {
    this.#set = wantedBy(obligations);
    this.#uncertain = false;
    this.pending = true;
    return this.#statement(this.#set);
  }

  /** @param row of the answer; undefined where it failed. */
  noteAnswered(row: readonly (string | null)[] | undefined): void {
    this.pending = false;
    const [timeoutOwn, timeout, readOnlyOwn, readOnly] = row ?? [];
    if (!timeoutOwn || !timeout || !readOnlyOwn || !readOnly) {
      this.#uncertain = true;
      return;
    }
    const obliged = obliges(this.#set);
    this.#timeout = obliged ? { own: timeoutOwn, ours: timeout } : undefined;
    this.#readOnly = obliged ? { own: readOnlyOwn, ours: readOnly } : undefined;
  }

  /** Names are qualified and operators called by their functions: nothing of a caller's search_path is in it. */
  #statement({ timeoutMs, readOnly }: Wanted): string {
    const own = (name: string, known: Known | undefined) => {
      const now = `pg_catalog.current_setting('${name}')`;
      if (known === undefined) return now;
      return `CASE WHEN pg_catalog.texteq(${now}, '${quoted(known.ours)}') THEN '${quoted(known.own)}' ELSE ${now} END`;
    };
    const timeout =
      timeoutMs === undefined
        ? "own.timeout"
        : `CASE WHEN pg_catalog.float8gt(own.seconds, 0) AND pg_catalog.float8le(own.seconds, ${timeoutMs / 1_000}) ` +
          `THEN own.timeout ELSE '${timeoutMs}ms' END`;
    const columns = [
      "own.timeout",
      `pg_catalog.set_config('statement_timeout', ${timeout}, false)`,
      "own.read_only",
      `pg_catalog.set_config('default_transaction_read_only', ${readOnly ? "'on'" : "own.read_only"}, false)`,
      ...(readOnly ? ["pg_catalog.set_config('transaction_read_only', 'on', true)"] : []),
    ];
    return (
      `SELECT ${columns.join(", ")} FROM (SELECT found.timeout, found.read_only, ` +
      `pg_catalog.date_part('epoch', found.timeout::pg_catalog.interval) AS seconds FROM (SELECT ` +
      `${own("statement_timeout", this.#timeout)} AS timeout, ` +
      `${own("default_transaction_read_only", this.#readOnly)} AS read_only OFFSET 0) found OFFSET 0) own`
    );
  }
}

function quoted(value: string): string {
  return value.replaceAll("'", "''");
}
