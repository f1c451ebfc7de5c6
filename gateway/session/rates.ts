/**
 * How many commands an identity ran on a target lately, where policy bounds that. Exact for any span of time: the moment
 * of each command that counts is kept until it no longer does. Counted by this gateway process alone.
 */
import { limits } from "../limits.ts";
import type { RateLimit } from "../policy/decision.ts";

/** The moments of the latest commands, in milliseconds, as a ring once it is full. */
class Log {
  readonly perMs: number;
  commands: number;
  #times: number[] = [];
  #oldest = 0;

  constructor({ commands, per_ms }: RateLimit) {
    this.commands = commands;
    this.perMs = per_ms;
  }

  get latest(): number {
    return this.#times.at(this.#oldest - 1) ?? 0;
  }

  /** The rule was changed: what was counted stays. */
  resize(commands: number): void {
    if (commands === this.commands) return;
    this.#times = [...this.#times.slice(this.#oldest), ...this.#times.slice(0, this.#oldest)].slice(-commands);
    this.#oldest = 0;
    this.commands = commands;
  }

  /** Milliseconds until there is room; 0 where there is. */
  waitMs(at: number): number {
    if (this.#times.length < this.commands) return 0;
    return Math.max(0, (this.#times[this.#oldest] ?? 0) + this.perMs - at);
  }

  take(at: number): void {
    if (this.#times.length < this.commands) {
      this.#times.push(at);
    } else {
      this.#times[this.#oldest] = at;
      this.#oldest = (this.#oldest + 1) % this.commands;
    }
  }
}

export interface UsedUp {
  readonly rate: RateLimit;
  /** Until a command has room again. */
  readonly waitMs: number;
}

export class Rates {
  readonly #logs = new Map<string, Log>();

  /** Counts one command against all of `rates`; against none where one of them is used up, which is returned. */
  take(identityKey: string, target: string, rates: readonly RateLimit[], atMs: number): UsedUp | undefined {
    const logs: Log[] = [];
    for (const rate of rates) {
      const log = this.#logOf(`${identityKey}\n${target}\n${rate.rule}\n${rate.per_ms}`, rate, atMs);
      // What cannot be counted is not run.
      const waitMs = log === undefined ? rate.per_ms : log.waitMs(atMs);
      if (waitMs > 0) return { rate, waitMs };
      if (log !== undefined) logs.push(log);
    }
    for (const log of logs) log.take(atMs);
    return undefined;
  }

  #logOf(key: string, rate: RateLimit, atMs: number): Log | undefined {
    const known = this.#logs.get(key);
    if (known !== undefined) {
      known.resize(rate.commands);
      return known;
    }
    if (this.#logs.size >= limits.rateLogsMax) this.#forget(atMs);
    if (this.#logs.size >= limits.rateLogsMax) return undefined;
    const log = new Log(rate);
    this.#logs.set(key, log);
    return log;
  }

  #forget(atMs: number): void {
    for (const [key, log] of this.#logs) if (log.latest + log.perMs <= atMs) this.#logs.delete(key);
  }
}
