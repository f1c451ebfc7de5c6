/**
 * Gives texts that differ only in compared literals one canonical text, which is what is then analysed: an analysis
 * cannot depend on a literal it never saw. Anything but the plainest lexical forms is left alone.
 */
const textLengthMax = 16_384;

const [other, word, dot, space, operator, quote, mark] = [0, 1, 2, 3, 4, 5, 6];

/** By ASCII code: no comment, quoted name, escape, operator or number form that this file would have to understand. */
const kinds = new Uint8Array(128);
for (const [kind, characters] of [
  [word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"],
  [dot, "."],
  [space, " \t\r\n"],
  [operator, "=<>*"],
  [quote, "'"],
  [mark, ",();"],
] as const) {
  for (const character of characters) kinds[character.charCodeAt(0)] = kind;
}
const comparisons = new Set(["=", "<", ">", "<=", ">=", "<>"]);
const backslash = 0x5c;
/** A number longer than that may be of another type. */
const digitsMax = 9;

/** Verbs whose analysis is the same for every value of a compared literal. */
export const normalisedVerbs: ReadonlySet<string> = new Set(["SELECT", "INSERT", "UPDATE", "DELETE"]);

const kindAt = (sql: string, at: number) => kinds[sql.charCodeAt(at)] ?? other;

/** @param at of its opening quote. @returns where its closing quote is; -1 where it is no plain literal */
function literalEnd(sql: string, at: number): number {
  for (let end = at + 1; end < sql.length; end++) {
    const code = sql.charCodeAt(end);
    // A doubled quote, or an empty literal, which looks like one.
    if (code === 0x27) return end === at + 1 || sql.charCodeAt(end + 1) === 0x27 ? -1 : end;
    if (code === backslash || code === 0 || (code >= 0xd800 && code <= 0xdfff)) return -1;
  }
  return -1;
}

/** @returns behind an integer of few digits that begins there; -1 where none does */
function integerEnd(sql: string, at: number): number {
  let end = at;
  for (let code = sql.charCodeAt(end); code >= 0x30 && code <= 0x39; code = sql.charCodeAt(end)) end += 1;
  const next = kindAt(sql, end);
  return end === at || end - at > digitsMax || next === word || next === dot ? -1 : end;
}

/** @returns the canonical text, or undefined where the text has to be taken as it is. */
export function normalise(sql: string): string | undefined {
  const { length } = sql;
  if (length > textLengthMax || length === 0) return undefined;
  let shown = "";
  let copied = 0;
  for (let at = 0; at < length; ) {
    const kind = kindAt(sql, at);
    if (kind === other) return undefined;
    if (kind === quote) {
      const end = literalEnd(sql, at);
      if (end < 0) return undefined;
      at = end + 1;
      continue;
    }
    const start = at;
    at += 1;
    if (kind !== operator) continue;
    while (kindAt(sql, at) === operator) at += 1;
    const operatorEnd = at;
    while (kindAt(sql, at) === space) at += 1;
    const isText = kindAt(sql, at) === quote;
    const end = isText ? literalEnd(sql, at) + 1 : integerEnd(sql, at);
    if (isText && end === 0) return undefined;
    if (end < 0 || !comparisons.has(sql.slice(start, operatorEnd))) continue;
    shown += `${sql.slice(copied, at)}${isText ? "''" : "0"}`;
    copied = end;
    at = end;
  }
  return copied === 0 ? sql : shown + sql.slice(copied);
}
