/** A change that breaks an invariant, and the test that must notice. */
export interface Mutation {
  /** Of the table in ARCHITECTURE.md; "also" is the paragraph below it. */
  readonly invariant: 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | "also";
  /** What is broken, in a few words. */
  readonly what: string;
  readonly edits: readonly Edit[];
  readonly test: TestToFail;
}

export interface Edit {
  readonly file: string;
  /** Must be in the file exactly `times` (once when not given), so that a mutation cannot rot silently. */
  readonly search: string;
  readonly replace: string;
  readonly times?: number;
  /** Not where a longer name begins with it. */
  readonly whole?: boolean;
}

export type TestToFail =
  | { readonly kind: "test"; readonly file: string; readonly name: string }
  /** The linter, on one file. */
  | { readonly kind: "lint"; readonly file: string };

/** @returns the text as mutated. @throws Error when the search text is not there as often as it says */
export function applyEdit(text: string, { file, search, replace, times = 1, whole = false }: Edit): string {
  const parts = text.split(whole ? new RegExp(`${search.replace(/\W/g, "\\$&")}(?!\\w)`) : search);
  const found = parts.length - 1;
  if (found !== times) throw new Error(`${file} has ${found} times, not ${times}: ${search}`);
  return parts.join(replace);
}
