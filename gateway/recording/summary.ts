/** What the list of sessions says of one beyond its opening: counted while it is written, and again by `verify`. */
export class SessionSummary {
  commands: number;
  readonly #verdicts: Set<string>;

  /** @param before of the events before, as the list has it */
  constructor(before: { readonly commands: number; readonly verdicts: string } = { commands: 0, verdicts: "," }) {
    this.commands = before.commands;
    this.#verdicts = new Set(before.verdicts.split(",").filter((verdict) => verdict !== ""));
  }

  /** @param line one event as JSON */
  take(line: string): void {
    if (!line.startsWith('{"type":"intent"')) return;
    const verdict = /"verdict":"(allow|deny|mask|approve)"/.exec(line)?.[1];
    this.count(Number(/"command":(\d+)/.exec(line)?.[1] ?? 0), verdict);
  }

  /** An intent. */
  count(command: number, verdict: string | undefined): void {
    if (verdict) this.#verdicts.add(verdict);
    this.commands = Math.max(this.commands, command);
  }

  /** ",allow,deny,", in the order in which they came first. */
  get verdicts(): string {
    return `,${[...this.#verdicts].join()},`;
  }
}
