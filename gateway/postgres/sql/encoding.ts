/**
 * Names in a database of another encoding than UTF8. PostgreSQL converts a text before it reads it: there it folds and
 * cuts names by that encoding, and letters that differ here may be one letter. The parser here only knows UTF-8.
 */
import { lexemes } from "../../recording/sql-lexemes.ts";
import { isBody } from "./ast.ts";

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are the rest of ASCII
export const beyondAscii = /[^\x00-\x7f]/;
/** Fields and kinds that are data. */
const data = new Set(["A_Const", "comment", "payload", "vals", "newVal", "oldVal", "newValNeighbor"]);
/** The parser cuts at 63 bytes, before a letter that does not fit: what it cut off may be all that was beyond ASCII. */
const cutBytesMin = 60;

/** @returns why a text may be read in another way there, or undefined */
export function readOtherwise(sql: string, tree: unknown, encoding: string): string | undefined {
  if (!beyondAscii.test(sql) && !/U&"/i.test(sql)) return undefined;
  // Its letters may end in a byte that is a backslash.
  const isOther = encoding === "JOHAB" || hasOtherTag(sql) || hasName(tree, mayDiffer);
  if (!isOther) return undefined;
  return `a name beyond ASCII, which a database of encoding ${encoding} reads in its own way: send it without such letters, what has such a name through a view`;
}

/** Of a text that PostgreSQL spelled: names are as they are, but for those that the parser cuts. */
export function hasCutName(sql: string, tree: unknown): boolean {
  return beyondAscii.test(sql) && hasName(tree, mayBeCut);
}

function mayDiffer(name: string): boolean {
  return beyondAscii.test(name) || mayBeCut(name);
}

function mayBeCut(name: string): boolean {
  return Buffer.byteLength(name) >= cutBytesMin;
}

/** $é$: a name decides where the constant ends. */
function hasOtherTag(sql: string): boolean {
  if (!sql.includes("$")) return false;
  for (const { kind, open } of lexemes(sql)) {
    if (kind === "literal" && open.startsWith("$") && beyondAscii.test(open)) return true;
  }
  return false;
}

function hasName(value: unknown, test: (name: string) => boolean): boolean {
  if (typeof value === "string") return test(value);
  if (Array.isArray(value)) return value.some((one) => hasName(one, test));
  if (!isBody(value)) return false;
  for (const key in value) if (!data.has(key) && hasName(value[key], test)) return true;
  return false;
}
