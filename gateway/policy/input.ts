/**
 * What a policy sees: the input documents of the entrypoints `sallyport/session` and `sallyport/command`.
 * This is the contract with policy authors; fields are added, never renamed. Every protocol produces these shapes.
 */
export type IdentityKind = "human" | "agent";

/** Who is calling, as the token said; source: `identity/`. */
export interface IdentityInput {
  readonly issuer: string;
  readonly subject: string;
  /** Empty where the token has none. */
  readonly email: string;
  readonly groups: readonly string[];
  readonly kind: IdentityKind;
  readonly claims: Readonly<Record<string, unknown>>;
}

export interface TargetInput {
  readonly name: string;
  readonly kind: string;
  readonly database: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** What the caller says of its own purpose: recorded and visible to policy as a claim, never as proof. */
export interface SessionContext {
  readonly reason: string;
  readonly prompt: string;
  readonly ticket: string;
  readonly trace: string;
}

export interface SessionPart {
  readonly id: string;
  readonly client: { readonly address: string; readonly application: string };
  readonly context: SessionContext;
}

export interface NowInput {
  /** UTC, RFC 3339, to the second. */
  readonly rfc3339: string;
  /** Monday … Sunday, in the time zone that the policy's data names (`timezone`; UTC where it names none). */
  readonly weekday: string;
  /** 0 to 23, in that zone. */
  readonly hour: number;
  /** 00:00 to 23:59, in that zone. */
  readonly time: string;
}

export interface SessionInput {
  readonly identity: IdentityInput;
  readonly target: TargetInput;
  readonly session: SessionPart;
  readonly now: NowInput;
}

export const statementClasses = ["read", "write", "ddl", "dcl", "transaction", "session", "utility"] as const;
export type StatementClass = (typeof statementClasses)[number];
export type ColumnUse = "output" | "derived" | "predicate" | "order" | "write";

export interface RelationInput {
  readonly schema: string;
  readonly name: string;
  readonly access: "read" | "write" | "ddl";
  /** Union of the labels of the relation's columns, sorted: what an error's DETAIL could show of it. */
  readonly labels: readonly string[];
}

export interface ColumnInput {
  readonly schema: string;
  readonly table: string;
  readonly column: string;
  readonly labels: readonly string[];
  /**
   * output: a bare top-level result column, which the wire masks by (table OID, attnum);
   * derived: in any expression that reaches a result, a write or a side effect; predicate: WHERE, ON, HAVING, LIMIT…;
   * order: ORDER BY, GROUP BY, DISTINCT, window; write: assigned to.
   */
  readonly use: ColumnUse;
}

export interface StatementInput {
  /** Upper case: SELECT, INSERT, COPY, CREATE TABLE, SET, … */
  readonly verb: string;
  readonly class: StatementClass;
  /** Those named, and those whose rows that gives or takes: below a view, and above a partition or child. */
  readonly relations: readonly RelationInput[];
  readonly columns: readonly ColumnInput[];
  /**
   * Schema-qualified and sorted; an unresolved one is spelled as written. Operators of users count by their function;
   * what an extension put into pg_catalog or information_schema counts as "added.pg_catalog.<name>" as well.
   */
  readonly functions: readonly string[];
  /** A write or read with a WHERE that names a column, or no rows of a relation touched at all. */
  readonly bounded: boolean;
  /** The constant of a top-level LIMIT, or null. */
  readonly limit: number | null;
  /** What a policy may want to know of the statement that is not a relation, column or function: see `postgres/sql`. Sorted. E.g. "copy.program", "copy.file", "do", "explain.analyze", "set:search_path", "set.role", "whole_row:public.people". */
  readonly features: readonly string[];
}

/** The part of a command that depends on its text, catalog and search_path only; frozen and shared between sessions. */
export interface CommandAnalysis {
  readonly kind: "sql";
  /** sha256:<hex> of the normalised parse and of what its names stand for; literals do not count. */
  readonly fingerprint: string;
  /** False when anything in the command could not be accounted for; `incomplete` says what. */
  readonly complete: boolean;
  /** Reasons for `complete: false`, for people; sorted, empty when complete. */
  readonly incomplete: readonly string[];
  readonly statements: readonly StatementInput[];
}

export interface CommandPart extends CommandAnalysis {
  /** sha256:<hex> of text and parameters. */
  readonly digest: string;
  /** True when this identity's kind of command (fingerprint) was never run before on this target. */
  readonly novel: boolean;
  /** Text form of each bound parameter; null for SQL NULL; binary ones as \x hex. */
  readonly params: readonly (string | null)[];
}

export interface CommandInput extends SessionInput {
  readonly command: CommandPart;
}
