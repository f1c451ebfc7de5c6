/**
 * Where literals, quoted names and comments are in a text, by PostgreSQL's lexical rules (standard_conforming_strings is
 * on, always). Source: "Lexical Structure" in its documentation, and its scanner's patterns (scan.l).
 */

export interface Lexeme {
  readonly kind: "literal" | "name" | "comment";
  readonly start: number;
  /** What is between its marks. */
  readonly inside: readonly [start: number, end: number];
  readonly stop: number;
}

// Words are among them so that none of their letters is taken for the start of something else: a$b$, nameE'…'.
const next =
  /(?<comment>--[^\n\r]*|\/\*)|(?<escaped>E'(?:\\[\s\S]|''|[^'\\])*'?)|(?<plain>'(?:''|[^'])*'?)|(?<name>"(?:""|[^"])*"?)|(?<tag>\$(?:[a-z_\u{80}-\u{10ffff}][a-z0-9_\u{80}-\u{10ffff}]*)?\$)|[a-z_\u{80}-\u{10ffff}][a-z0-9_$\u{80}-\u{10ffff}]*/giu;

/** In the order of the text; none where only words, numbers and signs are. */
export function* lexemes(sql: string): Generator<Lexeme> {
  const scan = new RegExp(next);
  for (let match = scan.exec(sql); match !== null; match = scan.exec(sql)) {
    const [whole] = match;
    const { comment, escaped, plain, name, tag } = match.groups ?? {};
    const start = match.index;
    if (comment === "/*") scan.lastIndex = endOfComment(sql, scan.lastIndex);
    if (tag !== undefined) {
      const closing = sql.indexOf(tag, scan.lastIndex);
      scan.lastIndex = closing < 0 ? sql.length : closing + tag.length;
    }
    const stop = scan.lastIndex;
    const kind = comment ? "comment" : name ? "name" : escaped || plain || tag ? "literal" : undefined;
    if (kind === undefined) continue;
    const open = comment ? 2 : escaped ? 2 : tag ? tag.length : 1;
    const close = comment === undefined ? (tag ?? whole.at(-1) ?? "") : comment === "/*" ? "*/" : "";
    const from = start + open;
    const to = stop - close.length;
    // One that is not closed goes to the end of the text.
    const isClosed = close !== "" && to >= from && sql.startsWith(close, to);
    yield { kind, start, inside: [from, isClosed ? to : stop], stop };
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
