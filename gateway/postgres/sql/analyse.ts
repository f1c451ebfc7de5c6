/**
 * A command's text as policy sees it, and as the session's machine needs it. What is not understood here is named in
 * `incomplete`, and policy denies it.
 */
import type { StatementInput } from "../../policy/input.ts";
import { type AnalysedCommand, type AnalysedStatement, hasOnlyRows } from "../analysed.ts";
import type { NameContext } from "./catalog.ts";
import { readOtherwise } from "./encoding.ts";
import { Budget, Findings, TooComplex } from "./findings.ts";
import { fingerprintOf, fingerprintOfText } from "./fingerprint.ts";
import { type ParsedStatement, parseSql } from "./parse.ts";
import type { QueryResult } from "./scope.ts";
import { judge } from "./statement.ts";
import type { Kind } from "./statement-kind.ts";
import type { UnknownName } from "./unknown-name.ts";
import { parts } from "./view.ts";

export function analyse(sql: string, context: NameContext): AnalysedCommand {
  const parsed = parseSql(sql);
  if (parsed.kind === "error") return freeze(refused(fingerprintOfText(sql), parsed.error.message, parsed.error));
  const statements: AnalysedStatement[] = [];
  const inputs: StatementInput[] = [];
  const incomplete = new Set<string>();
  const unknown = new Map<string, UnknownName>();
  const { encoding } = context.catalog.snapshot;
  const otherwise = encoding === undefined ? undefined : readOtherwise(sql, parsed.statements, encoding);
  if (otherwise !== undefined) incomplete.add(otherwise);
  let namesMayDiffer = false;
  let nameless = true;
  const budget = new Budget();
  for (const one of parsed.statements) {
    const { input, statement, findings } = analyseStatement(one, sql, context, budget);
    for (const reason of findings.incomplete) incomplete.add(reason);
    for (const [reason, name] of findings.unknown) if (!unknown.has(reason)) unknown.set(reason, name);
    // Each statement's names are resolved when its turn comes; this analysis knows only those before the first.
    const usesNames =
      findings.usesNames || input.relations.length > 0 || input.functions.length > 0 || statement.execute !== undefined;
    if (usesNames || statement.fetch || statement.prepared || statement.cursor) nameless = false;
    if (namesMayDiffer && usesNames) {
      incomplete.add("a statement before it in the same message may change what its names mean: send them one by one");
    }
    // In a failed transaction COMMIT takes back what that set, and any other statement before it would fail there, and
    // with it the message. In any other it drops what was made ON COMMIT DROP.
    const mayRollBack =
      /^(?:commit|prepare)$/.test(statement.transaction ?? "") && (inputs.length === 0 || hidesByTemporary(context));
    namesMayDiffer ||= statement.changesCatalog || statement.changesSession || mayRollBack;
    inputs.push(input);
    statements.push(statement);
  }
  const command = {
    kind: "sql" as const,
    fingerprint: resolvedFingerprint(fingerprintFor(parsed.statements, sql), inputs),
    complete: incomplete.size === 0,
    incomplete: [...incomplete].sort(),
    statements: inputs,
  };
  const plain = statements.every(isPlain);
  const [first] = unknown.values();
  if (first === undefined || unknown.size < incomplete.size) return freeze({ command, plain, nameless, statements });
  const { sqlstate, message, offset } = first;
  const unknownName = { sqlstate, message, position: position(sql, offset) };
  return freeze({ command, plain, nameless, statements, unknownName });
}

/** A temporary relation of the session's own has a name that means another one once it is gone. */
function hidesByTemporary({ catalog, searchPath }: NameContext): boolean {
  const own = searchPath.find((schema) => schema.startsWith("pg_temp"));
  if (own === undefined) return false;
  for (const { schema, name } of catalog.relations()) {
    if (schema !== own) continue;
    if (searchPath.some((other) => other !== own && catalog.relation(other, name) !== undefined)) return true;
  }
  return false;
}

function analyseStatement(one: ParsedStatement, sql: string, context: NameContext, budget: Budget) {
  const findings = new Findings(context, parts, budget);
  let kind: Kind = { verb: one.kind, class: "utility" };
  let result: QueryResult | null = null;
  try {
    [kind, result] = judge(one, sql.slice(one.start, one.start + one.length), findings);
    findings.settle();
    if (!readsNoRows.test(kind.verb)) findings.partitions(kind.verb === "EXPLAIN");
  } catch (error) {
    if (!(error instanceof TooComplex) && !(error instanceof RangeError)) throw error;
    findings.incomplete.add("the statement is too complex");
  }
  const statementClass = raised(kind, findings);
  if (kind.class === "ddl" && findings.features.has("data_modifying_cte")) {
    findings.incomplete.add("a write inside what defines a table");
  }
  const input: StatementInput = {
    verb: kind.verb,
    class: statementClass,
    relations: findings.relationInputs(),
    columns: findings.columnInputs(),
    functions: [...findings.functions].sort(),
    bounded: findings.bounded,
    limit: kind.limit ?? null,
    features: [...findings.features].sort(),
  };
  const statement: AnalysedStatement = {
    outputColumns: outputs(result, context),
    ...kind.statement,
    changesCatalog: findings.changesCatalog || statementClass === "ddl" || kind.statement?.changesCatalog === true,
    changesSession: findings.changesSession || kind.statement?.changesSession === true,
    ...((statementClass === "ddl" || statementClass === "dcl") &&
      !findings.features.has("temp") &&
      !redefinesNothing.test(input.verb) && { redefines: redefined(input, findings) }),
  };
  return { input, statement, findings };
}

const readsNoRows = /^(?:TRUNCATE|VACUUM|ANALYZE|LOCK)$/;

const redefinesNothing =
  /^(?:CHECKPOINT|COMMENT|REINDEX|CLUSTER|REPACK|REFRESH MATERIALIZED VIEW|CREATE (?:INDEX|STATISTICS|SEQUENCE)|ALTER SEQUENCE|DROP INDEX|CREATE ROLE|ALTER (?:ROLE|ROLE SET|DEFAULT PRIVILEGES|SYSTEM|OWNER)|REASSIGN OWNED|LOAD)$/;

/** Who may use a schema decides which of several relations a name means; who may read a table, nothing. */
const grants = /^(?:GRANT|REVOKE)$/;

function redefined({ verb, relations }: StatementInput, { newNames }: Findings): readonly string[] | "anything" {
  // A schema, a type or a function by another name, or what a role owns: others may have any name of it.
  if (relations.length === 0) return "anything";
  if (grants.test(verb)) return [];
  // What has names, and none that others see, is the session's own.
  const seen = relations.filter(({ access, schema }) => access === "ddl" && !schema.startsWith("pg_temp"));
  return [...seen.map(({ name }) => name), ...newNames];
}

/** 1-based, in characters, as ErrorResponse's P field. */
function position(sql: string, offset: number): number {
  return Array.from(Buffer.from(sql).toString("utf8", 0, offset)).length + 1;
}

/** A SELECT whose WITH writes is a write; DDL stays DDL. */
function raised(kind: Kind, findings: Findings): StatementInput["class"] {
  if (kind.class === "ddl" || findings.class === undefined) return kind.class;
  return findings.class;
}

function outputs(result: QueryResult | null, context: NameContext): AnalysedStatement["outputColumns"] {
  if (result === null || result.open !== null) return null;
  return result.columns.map(({ origin }) => {
    if (origin === null) return { oid: 0, attnum: 0, column: null };
    const relation = context.catalog.relationByOid(origin.oid);
    const column = relation?.columns.find(({ attnum }) => attnum === origin.attnum);
    return { ...origin, column: relation && column ? `${relation.schema}.${relation.name}.${column.name}` : null };
  });
}

function refused(fingerprint: string, message: string, error: NonNullable<AnalysedCommand["error"]>): AnalysedCommand {
  return {
    command: { kind: "sql", fingerprint, complete: false, incomplete: [message], statements: [] },
    plain: false,
    nameless: true,
    statements: [],
    error,
  };
}

function isPlain(statement: AnalysedStatement): boolean {
  return !statement.changesCatalog && !statement.changesSession && hasOnlyRows(statement);
}

function fingerprintFor(statements: readonly ParsedStatement[], sql: string): string {
  try {
    return fingerprintOf(statements);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return fingerprintOfText(sql);
  }
}

/** One text is another kind of command where its names mean something else. */
function resolvedFingerprint(fingerprint: string, inputs: readonly StatementInput[]): string {
  const names = inputs.map(({ relations, functions }) => [
    relations.map(({ schema, name, access }) => [schema.replace(/^pg_temp_\d+$/, "pg_temp"), name, access]),
    functions,
  ]);
  return fingerprintOfText(`${fingerprint}\n${JSON.stringify(names)}`);
}

function freeze(analysed: AnalysedCommand): AnalysedCommand {
  const deep = (value: unknown): void => {
    if (typeof value !== "object" || value === null || Object.isFrozen(value)) return;
    Object.freeze(value);
    for (const one of Object.values(value)) deep(one);
  };
  deep(analysed);
  return analysed;
}
