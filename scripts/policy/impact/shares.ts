/**
 * Which thread judges which sessions: those of one identity on one target go to one thread, whose cache of decisions
 * then serves them all. A thread without any takes some of the thread that has most.
 */
import type { Listed } from "./store-reader.ts";

const waitingMax = 5_000;

export class Shares {
  readonly #from: AsyncGenerator<Listed>;
  readonly #waiting: string[][];
  #count = 0;
  #done = false;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(from: AsyncGenerator<Listed>, threads: number) {
    this.#from = from;
    this.#waiting = Array.from({ length: threads }, () => []);
  }

  /** Empty when all are given out. */
  next(thread: number, sessionsMax: number): Promise<string[]> {
    const taken = this.#turn.then(() => this.#take(thread, sessionsMax));
    this.#turn = taken.catch(() => undefined);
    return taken;
  }

  async #take(thread: number, sessionsMax: number): Promise<string[]> {
    const own = this.#waiting[thread] ?? [];
    while (own.length < sessionsMax && this.#count < waitingMax && !this.#done) {
      const { value, done } = await this.#from.next();
      if (done) {
        this.#done = true;
        break;
      }
      this.#waiting[Number(BigInt(Bun.hash(value.alike)) % BigInt(this.#waiting.length))]?.push(value.id);
      this.#count += 1;
    }
    const most = this.#waiting.reduce((a, b) => (b.length > a.length ? b : a));
    const taken = (own.length > 0 ? own : most).splice(0, sessionsMax);
    this.#count -= taken.length;
    return taken;
  }
}
