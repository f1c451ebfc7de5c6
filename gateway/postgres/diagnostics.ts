/** Errors and notices on their way to a caller: the gateway's own, and the target's without values where policy says so. */
import { type GatewayError, renderings } from "../errors.ts";
import type { Denial } from "../session/denial.ts";
import type { AnalysedCommand } from "./analysed.ts";
import type { NoticeFields } from "./messages.ts";

/** Severity, SQLSTATE and position, which say nothing of a row. */
const plainFields = ["S", "V", "C", "P"] as const;
/** Schema, table, column, type, constraint. */
const namingFields = ["s", "t", "c", "d", "n"] as const;

/**
 * @param named the relations that the statement names, as schema.table: of another one, a partition or a child, the
 *   name alone may tell what is in a row
 */
export function canonicalFields(fields: NoticeFields, named: ReadonlySet<string>): NoticeFields {
  const kept: Record<string, string> = {};
  const isNamed = fields.t === undefined || named.has(`${fields.s}.${fields.t}`);
  for (const letter of isNamed ? [...plainFields, ...namingFields] : plainFields) {
    const value = fields[letter];
    if (value !== undefined) kept[letter] = value;
  }
  kept.M = `the target reported SQLSTATE ${fields.C ?? "unknown"}; its text is withheld because it may show masked values`;
  return kept;
}

const denialStates: Readonly<Record<Denial["code"], string>> = {
  denied: "42501",
  cancelled: "57014",
  rate_exceeded: "53400",
};

/** The default policies' rules that what cannot be understood falls under, whatever else it is. */
const incompleteRules: readonly string[] = ["access.incomplete", "dangerous.user_function"];

/** A command that is denied for nothing but a name that does not exist gets the error that PostgreSQL has for it. */
export function denialFields(denial: Denial, { unknownName }: AnalysedCommand): NoticeFields {
  const alone = denial.code === "denied" && denial.rules.every(({ id }) => incompleteRules.includes(id));
  const unknown = alone ? unknownName : undefined;
  return {
    S: "ERROR",
    V: "ERROR",
    C: unknown?.sqlstate ?? denialStates[denial.code],
    M: unknown?.message ?? denial.message,
    ...(denial.detail !== "" && { D: denial.detail }),
    ...(denial.hint !== "" && { H: denial.hint }),
    ...(unknown && { P: String(unknown.position) }),
  };
}

/**
 * An error of what the target was asked that says nothing about the question: cancelled, timed out, a lock not had, a
 * deadlock, a transaction that has to be begun again, an object that went away meanwhile (which it calls an internal
 * error). Source: PostgreSQL's errcodes (Appendix A).
 */
export function isPassing({ V, C }: NoticeFields): boolean {
  return V === "ERROR" && /^(?:40...|55P03|57014|XX000)$/.test(C ?? "");
}

export function errorFields(error: GatewayError, severity: "ERROR" | "FATAL"): NoticeFields {
  return {
    S: severity,
    V: severity,
    C: renderings[error.code].sqlstate,
    M: error.message,
    ...(error.hint !== undefined && { H: error.hint }),
  };
}

export function nativeError(sqlstate: string, message: string, position?: number): NoticeFields {
  return { S: "ERROR", V: "ERROR", C: sqlstate, M: message, ...(position !== undefined && { P: String(position) }) };
}
