/** The text of the statement inside PREPARE … AS and DECLARE … FOR, proved by parsing it again. */
import { endOfComment } from "../../recording/sql-lexemes.ts";
import type { Node } from "./ast.ts";
import { spelling } from "./fingerprint.ts";
import { parseSql } from "./parse.ts";

const tokens =
  /\s+|--[^\n\r]*|\/\*|"(?:[^"]|"")*"|'(?:[^']|'')*'|[A-Za-z_\u0080-\uffff][A-Za-z0-9_$\u0080-\uffff]*|[\s\S]/y;

/** @returns undefined where what follows the keyword is not the statement that was parsed. */
export function innerText(outer: string, keyword: "as" | "for", inner: Node): string | undefined {
  const start = afterKeyword(outer, keyword);
  if (start === undefined) return undefined;
  const found = outer.slice(start).trim();
  const parsed = parseSql(found);
  const [statement, ...rest] = parsed.kind === "parsed" ? parsed.statements : [];
  if (statement === undefined || rest.length > 0 || statement.kind !== inner.kind) return undefined;
  return spelling(statement.body) === spelling(inner.body) ? found : undefined;
}

/** Offset after the first such keyword outside of brackets, comments and quotes. */
function afterKeyword(outer: string, keyword: string): number | undefined {
  let depth = 0;
  tokens.lastIndex = 0;
  for (let match = tokens.exec(outer); match !== null; match = tokens.exec(outer)) {
    const [token] = match;
    if (token === "/*") tokens.lastIndex = endOfComment(outer, tokens.lastIndex);
    else if (token === "(") depth += 1;
    else if (token === ")") depth -= 1;
    else if (depth === 0 && token.toLowerCase() === keyword) return tokens.lastIndex;
    if (tokens.lastIndex >= outer.length) return undefined;
  }
  return undefined;
}
