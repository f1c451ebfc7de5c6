/**
 * SQL without what people put into it: each literal becomes one of the same kind and form, comments go. Identifiers,
 * keywords and the number of parts stay, so that the text parses as it did.
 */

import { endOfComment } from "../../../gateway/recording/sql-lexemes.ts";

// PostgreSQL's lexical rules with standard_conforming_strings on. Order matters: the longer form first.
const token =
  /(?<line>--[^\n\r]*)|(?<block>\/\*)|(?<string>(?:\b[eE]'(?:[^'\\]|\\[\s\S]|'')*'?)|(?:\b[bBxXnN]'[^']*'?)|(?:\b[uU]&'(?:[^']|'')*'?)|(?:'(?:[^']|'')*'?))|(?<name>"(?:[^"]|"")*"?)|(?<dollar>\$(?:[A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*)?\$)|(?<word>[A-Za-z_\u0080-\uffff][A-Za-z0-9_$\u0080-\uffff]*)|(?<parameter>\$[0-9]+)|(?<number>(?:0[xX][0-9A-Fa-f_]+|0[oO][0-7_]+|0[bB][01_]+|(?:[0-9][0-9_]*)?\.?[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?))/gu;

const forms: readonly (readonly [RegExp, string])[] = [
  [/^\s*[+-]?\d+\s*$/, "1"],
  [/^\s*[+-]?\d*\.\d+\s*$/, "1.5"],
  [/^\s*\d{4}-\d{2}-\d{2}\s*$/, "2000-01-01"],
  [/^\s*\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}/, "2000-01-01 00:00:00+00"],
  [/^\s*[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\s*$/i, "00000000-0000-0000-0000-000000000000"],
  [/^\s*[{[]\s*"/, "{}"],
  [/^\s*\{/, "{}"],
  [/^\\x[0-9a-f]*$/i, "\\x00"],
  [/^(?:true|false|t|f|on|off)$/i, "true"],
  [/^$/, ""],
];

/** A value of the same form that says nothing of it. */
export function placeholder(value: string): string {
  return forms.find(([form]) => form.test(value))?.[1] ?? "x";
}

export interface Kept {
  /** Integers of one or two digits: positions in ORDER BY and GROUP BY. */
  readonly smallIntegers: boolean;
}

/** @param text of any statements, also of some that do not parse. */
export function withoutValues(text: string, kept: Kept): string {
  let out = "";
  let at = 0;
  const namesPath = /^\s*set\s+(?:session\s+|local\s+)?search_path\b/i.test(text);
  token.lastIndex = 0;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    const { line, block, string, dollar, number } = match.groups ?? {};
    out += text.slice(at, match.index);
    if (line !== undefined) out += " ";
    else if (block !== undefined) {
      token.lastIndex = endOfComment(text, token.lastIndex);
      out += " ";
    } else if (string !== undefined) out += namesPath && /^'[a-z_][\w, ]*'$/.test(string) ? string : newString(string);
    else if (dollar !== undefined) {
      const end = text.indexOf(dollar, token.lastIndex);
      const body = text.slice(token.lastIndex, end < 0 ? text.length : end);
      token.lastIndex = end < 0 ? text.length : end + dollar.length;
      out += `$$${placeholder(body)}$$`;
    } else if (number !== undefined) out += newNumber(number, kept);
    else out += match[0];
    at = token.lastIndex;
  }
  return (out + text.slice(at)).trim();
}

function newString(token: string): string {
  const open = token.indexOf("'");
  const prefix = token.slice(0, open);
  if (/^[bBxX]$/.test(prefix)) return `${prefix}'0'`;
  const inner = token.slice(open + 1, token.endsWith("'") && token.length > open + 1 ? -1 : undefined);
  const plain = placeholder(inner.replaceAll("''", "'"));
  return /\\/.test(plain) && prefix !== "" ? `'x'` : `${prefix}'${plain}'`;
}

function newNumber(token: string, { smallIntegers }: Kept): string {
  if (smallIntegers && /^\d{1,2}$/.test(token)) return token;
  return /^\d+$/.test(token) ? "1" : /[.eE]/.test(token) ? "1.5" : "1";
}
