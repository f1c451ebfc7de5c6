/** What kind of command this is, whatever its literals: sha256 of the parse tree without constants and positions. */
import { type Body, isBody, node, nodes } from "./ast.ts";
import type { ParsedStatement } from "./parse.ts";

const positions = new Set([
  "location",
  "stmt_location",
  "stmt_len",
  "list_start",
  "list_end",
  "rexpr_list_start",
  "rexpr_list_end",
  "name_location",
]);

export function fingerprintOf(statements: readonly ParsedStatement[]): string {
  const hasher = new Bun.CryptoHasher("sha256");
  for (const statement of statements) hasher.update(`${statement.kind}${canonical(statement.body)}\n`);
  return `sha256:${hasher.digest("hex")}`;
}

/** Of text that does not parse: of the text itself. */
export function fingerprintOfText(text: string): string {
  return `sha256:${new Bun.CryptoHasher("sha256").update(`text\n${text}`).digest("hex")}`;
}

/** The tree as text without constants: fields come in the parser's order, which is fixed. */
function canonical(value: unknown): string {
  return written(value, false);
}

/** The tree as text, constants included, for comparison. */
export function spelling(value: unknown): string {
  return written(value, true);
}

function written(value: unknown, constants: boolean): string {
  if (Array.isArray(value)) return `[${value.map((item) => written(item, constants)).join()}]`;
  if (!isBody(value)) return JSON.stringify(value) ?? "";
  let out = "{";
  for (const key in value) {
    if (positions.has(key)) continue;
    if (key === "A_Const" && !constants) out += "A_Const,";
    else if (key === "A_Expr" && !constants && isInList(value[key])) {
      const { rexpr: _, ...rest } = value[key];
      out += `A_Expr:${written(rest, constants)},`;
    } else out += `${key}:${written(value[key], constants)},`;
  }
  return `${out}}`;
}

/** x IN (1, 2, 3): one kind of command, however many constants. */
function isInList(value: unknown): value is Body {
  if (!isBody(value) || value.kind !== "AEXPR_IN") return false;
  const right = node(value.rexpr);
  return (
    right?.kind === "List" && nodes(right.body.items).every(({ kind }) => kind === "A_Const" || kind === "ParamRef")
  );
}
