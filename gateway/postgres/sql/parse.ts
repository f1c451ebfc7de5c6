/**
 * Text to PostgreSQL's own parse tree. Text that could hurt the parser (too long, too deep, NUL, no valid Unicode) is
 * refused before it; what it refuses is a value with PostgreSQL's message and position.
 */
import { hasSqlDetails, loadModule, parseSync } from "libpg-query";
import { limits } from "../../limits.ts";
import { endOfComment } from "../../recording/sql-lexemes.ts";
import { type Body, bodyOf, list, type Node, node } from "./ast.ts";

await loadModule();

export interface SqlError {
  readonly message: string;
  /** 1-based, in characters, as ErrorResponse's P field. */
  readonly position?: number;
}
export interface ParsedStatement extends Node {
  /** In UTF-16 units of the text. */
  readonly start: number;
  readonly length: number;
}
export type Parsed =
  | { readonly kind: "parsed"; readonly statements: readonly ParsedStatement[] }
  | { readonly kind: "error"; readonly error: SqlError };

/** Tokens in a row (no comma, AND or OR between them) that the parser's stack surely takes. */
const chainTokensMax = 5_000;
/** Joins, set operations and CASEs, which nest without brackets. */
const nestingWordsMax = 1_000;

const tokens =
  /(?:--[^\n\r]*)|(?:\/\*)|(?:\b[eE]'(?:[^'\\]|\\[\s\S]|'')*'?)|(?:'(?:[^']|'')*'?)|(?:"(?:[^"]|"")*"?)|(\$(?:[A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*)?\$)|([A-Za-z_\u0080-\uffff][A-Za-z0-9_$\u0080-\uffff]*)|([([])|([)\]])|([,;])|(?:[0-9]+)|(?:[^\s])/g;
const nestingWords = new Set(["join", "union", "except", "intersect", "case"]);

/** Counts brackets and tokens by PostgreSQL's lexical rules (standard_conforming_strings is on, always). */
function tooDeep(sql: string): boolean {
  let depth = 0;
  let chain = 0;
  let nesting = 0;
  const outer: [number, number][] = [];
  tokens.lastIndex = 0;
  for (let match = tokens.exec(sql); match !== null; match = tokens.exec(sql)) {
    const [token, dollar, word, opening, closing, separator] = match;
    if (token === "/*") {
      tokens.lastIndex = endOfComment(sql, tokens.lastIndex);
      continue;
    }
    if (dollar !== undefined) {
      const end = sql.indexOf(dollar, tokens.lastIndex);
      tokens.lastIndex = end < 0 ? sql.length : end + dollar.length;
    }
    chain += 1;
    if (opening !== undefined) {
      outer.push([chain, nesting]);
      depth += 1;
    } else if (closing !== undefined) {
      [chain, nesting] = outer.pop() ?? [0, 0];
      depth = outer.length;
    } else if (separator !== undefined) {
      chain = outer.at(-1)?.[0] ?? 0;
      if (token === ";") nesting = outer.at(-1)?.[1] ?? 0;
    } else if (word !== undefined) {
      const lower = word.toLowerCase();
      if (lower === "and" || lower === "or") chain = outer.at(-1)?.[0] ?? 0;
      else if (nestingWords.has(lower)) nesting += 1;
    }
    if (depth > limits.sqlDepthMax || chain > chainTokensMax || nesting > nestingWordsMax) return true;
  }
  return false;
}

/** Steps of the parser's lexer: for each comment's start it reads the operator characters that follow, then goes back. */
const commentStepsMax = 10_000_000;
const operatorRuns = /[~!@#^&|`?+\-*/%<>=]{4,}/g;

function hasCostlyComments(sql: string): boolean {
  let steps = 0;
  for (const [run] of sql.matchAll(operatorRuns)) {
    for (let at = run.indexOf("/*"); at >= 0; at = run.indexOf("/*", at + 2)) {
      steps += run.length - at;
      if (steps > commentStepsMax) return true;
    }
  }
  return false;
}

export function parseSql(sql: string): Parsed {
  if (sql.length > limits.sqlTextBytesMax || Buffer.byteLength(sql) > limits.sqlTextBytesMax) {
    return failure(`statement text is larger than ${limits.sqlTextBytesMax} bytes`);
  }
  // The parser reads a C string: what follows a NUL would never be seen.
  if (sql.includes("\u0000") || !sql.isWellFormed()) return failure("statement text is not valid UTF-8");
  if (tooDeep(sql)) return failure("statement is nested too deeply");
  if (hasCostlyComments(sql)) return failure("statement has too many comments in a row");
  if (sql.trim() === "") return { kind: "parsed", statements: [] };
  let tree: Body | undefined;
  try {
    tree = bodyOf(parseSync(sql));
  } catch (error) {
    if (!hasSqlDetails(error) || error.sqlDetails === undefined) return failure("statement could not be parsed");
    const { message, cursorPosition } = error.sqlDetails;
    return { kind: "error", error: { message, position: cursorPosition + 1 } };
  }
  const raw = list(tree?.stmts);
  if (raw.length > limits.statementsPerQueryMax) return failure(`more than ${limits.statementsPerQueryMax} statements`);
  // Offsets are in bytes of UTF-8; only other text than ASCII has to be measured.
  const bytes = Buffer.byteLength(sql) === sql.length ? undefined : Buffer.from(sql);
  const units = (offset: number) => (bytes ? bytes.subarray(0, offset).toString("utf8").length : offset);
  const statements: ParsedStatement[] = [];
  for (const item of raw) {
    const body = bodyOf(item) ?? {};
    const statement = node(body.stmt);
    if (statement === undefined) return failure("a statement of an unknown kind");
    const from = typeof body.stmt_location === "number" ? body.stmt_location : 0;
    const start = units(from);
    const end = typeof body.stmt_len === "number" && body.stmt_len > 0 ? units(from + body.stmt_len) : sql.length;
    statements.push({ ...statement, start, length: end - start });
  }
  return { kind: "parsed", statements };
}

function failure(message: string): Parsed {
  return { kind: "error", error: { message } };
}
