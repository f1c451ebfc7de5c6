/** What the list of sessions says of one beyond its opening: counted while it is written, and again by `verify`. */
export class SessionSummary {
  commands = 0;
  readonly #verdicts = new Set<string>();

  /** @param line one event as JSON */
  take(line: string): void {
    if (!line.startsWith('{"type":"intent"')) return;
    const verdict = /"verdict":"(allow|deny|mask|approve)"/.exec(line)?.[1];
    if (verdict) this.#verdicts.add(verdict);
    this.commands = Math.max(this.commands, Number(/"command":(\d+)/.exec(line)?.[1] ?? 0));
  }

  /** ",allow,deny,", in the order in which they came first. */
  get verdicts(): string {
    return `,${[...this.#verdicts].join()},`;
  }
}
