/**
 * Gives texts that differ only in compared literals one canonical text, which is what is then analysed: an analysis
 * cannot depend on a literal it never saw. Anything but the plainest lexical forms is left alone.
 */
const textLengthMax = 16_384;

/** No comment, quoted name, escape, operator or number form that this file would have to understand. */
const plain = /^(?:[A-Za-z0-9_ \t\r\n.,*()<>=;]|'[^'\\\ud800-\udfff]*')+$/;
const literals = /'[^']*'|([=<>*]+)([ \t\r\n]*)('[^']*'|[0-9]{1,9}(?![A-Za-z0-9_.]))/g;
const comparisons = new Set(["=", "<", ">", "<=", ">=", "<>"]);

/** Verbs whose analysis is the same for every value of a compared literal. */
export const normalisedVerbs: ReadonlySet<string> = new Set(["SELECT", "INSERT", "UPDATE", "DELETE"]);

/** @returns the canonical text, or undefined where the text has to be taken as it is. */
export function normalise(sql: string): string | undefined {
  if (sql.length > textLengthMax || sql.includes("''") || sql.includes("\u0000") || !plain.test(sql)) return undefined;
  return sql.replace(literals, (whole, operator: string | undefined, space: string, literal: string) => {
    if (operator === undefined || !comparisons.has(operator)) return whole;
    return `${operator}${space}${literal.startsWith("'") ? "''" : "0"}`;
  });
}
