/**
 * Text out of recordings, made safe to show: a terminal obeys control characters, a comment on a pull request obeys
 * Markdown and HTML, links what looks like an address, and notifies whoever is mentioned.
 */

// Controls, what reorders text, what is invisible, and separators of lines.
const unprintable = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;

/** On one line, whatever it holds. @param max in characters of the result, about */
export function oneLine(text: string, max: number): string {
  const cut = text.length > max * 4 ? text.slice(0, max * 4) : text;
  const line = cut
    .toWellFormed()
    .replace(/[\s]+/g, " ")
    .trim()
    .replace(unprintable, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
  return line.length > max || cut !== text ? `${line.slice(0, max).toWellFormed()}…` : line;
}

/** A code span: nothing inside it is Markdown, HTML, a link or a mention. Not for tables, where "|" would end a cell. */
export function codeSpan(text: string, max: number): string {
  const line = oneLine(text, max);
  const longest = Math.max(0, ...(line.match(/`+/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence} ${line === "" ? "(empty)" : line} ${fence}`;
}
