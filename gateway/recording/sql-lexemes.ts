/**
 * Where literals, quoted names and comments are in a text, by PostgreSQL's lexical rules (standard_conforming_strings is
 * on, always). Source: "Lexical Structure" in its documentation, and its scanner's patterns (scan.l).
 */

export interface Lexeme {
  readonly kind: "literal" | "name" | "comment";
  readonly start: number;
  /** The mark that it begins with. */
  readonly open: string;
  /** What is between its marks; of a literal that goes on over lines, of all its parts. */
  readonly content: string;
  readonly stop: number;
}

// Words are among them so that none of their letters is taken for the start of something else: a$b$, nameE'…'.
const next =
  /(?<comment>--[^\n\r]*|\/\*)|(?<escaped>E'(?:\\[\s\S]|''|[^'\\])*'?)|(?<bits>[bx]'[^']*'?)|(?<plain>'(?:''|[^'])*'?)|(?<name>"(?:""|[^"])*"?)|(?<tag>\$(?:[a-z_\u{80}-\u{10ffff}][a-z0-9_\u{80}-\u{10ffff}]*)?\$)|[a-z_\u{80}-\u{10ffff}][a-z0-9_$\u{80}-\u{10ffff}]*/giu;

/** A literal goes on where only blanks with a line break, and comments to a line's end, are before the next quote. */
const goesOn = /[ \t\f\v]*(?:--[^\n\r]*)?[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*'/y;
const escapedRest = /(?:\\[\s\S]|''|[^'\\])*'?/y;
const bitsRest = /[^']*'?/y;
const plainRest = /(?:''|[^'])*'?/y;

/**
 * In the mode of its first part.
 *
 * @param from behind its opening quote
 * @param end of its first part
 */
function literalParts(sql: string, from: number, end: number, rest: RegExp): { content: string; stop: number } {
  let [start, stop, content] = [from, end, ""];
  // One that is not closed goes to the end of the text.
  while (stop > start && sql[stop - 1] === "'") {
    content += sql.slice(start, stop - 1);
    goesOn.lastIndex = stop;
    if (!goesOn.test(sql)) return { content, stop };
    start = goesOn.lastIndex;
    rest.lastIndex = start;
    rest.test(sql);
    stop = rest.lastIndex;
  }
  return { content: content + sql.slice(start, stop), stop };
}

/** In the order of the text; none where only words, numbers and signs are. */
export function* lexemes(sql: string): Generator<Lexeme> {
  const scan = new RegExp(next);
  for (let match = scan.exec(sql); match !== null; match = scan.exec(sql)) {
    const { comment, escaped, bits, plain, name, tag } = match.groups ?? {};
    const start = match.index;
    const rest = escaped ? escapedRest : bits ? bitsRest : plain ? plainRest : undefined;
    if (rest !== undefined) {
      const from = start + (plain ? 1 : 2);
      const { content, stop } = literalParts(sql, from, scan.lastIndex, rest);
      scan.lastIndex = stop;
      yield { kind: "literal", start, open: sql.slice(start, from), content, stop };
      continue;
    }
    if (comment === "/*") scan.lastIndex = endOfComment(sql, scan.lastIndex);
    if (tag !== undefined) {
      const closing = sql.indexOf(tag, scan.lastIndex);
      scan.lastIndex = closing < 0 ? sql.length : closing + tag.length;
    }
    const stop = scan.lastIndex;
    const kind = comment ? "comment" : name ? "name" : tag ? "literal" : undefined;
    if (kind === undefined) continue;
    const open = comment?.slice(0, 2) ?? tag ?? '"';
    const close = open === "/*" ? "*/" : open === "--" ? "" : open;
    const [from, to] = [start + open.length, stop - close.length];
    // One that is not closed goes to the end of the text.
    const isClosed = close !== "" && to >= from && sql.startsWith(close, to);
    yield { kind, start, open, content: sql.slice(from, isClosed ? to : stop), stop };
  }
}

/** Comments nest. @param from behind the mark that opens it */
export function endOfComment(sql: string, from: number): number {
  const marks = /\/\*|\*\//g;
  marks.lastIndex = from;
  let open = 1;
  for (let mark = marks.exec(sql); mark !== null; mark = marks.exec(sql)) {
    open += mark[0] === "/*" ? 1 : -1;
    if (open === 0) return marks.lastIndex;
  }
  return sql.length;
}
