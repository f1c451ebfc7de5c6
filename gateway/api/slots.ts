/** Bounds what is under way at once, of all callers and of each: nobody keeps the others waiting by asking for all of it. */
import { GatewayError } from "../errors.ts";
import type { Person } from "../store/same-person.ts";

export class Slots {
  readonly #what: string;
  readonly #taken = new Map<string, number>();
  #total = 0;

  /** @param what is under way, for the message: "requests are answered" */
  constructor(what: string) {
    this.#what = what;
  }

  /** @returns what gives it back, once. @throws GatewayError api.busy */
  take({ issuer, subject }: Pick<Person, "issuer" | "subject">, perIdentityMax: number, totalMax: number): () => void {
    const who = `${issuer}\n${subject}`;
    const own = this.#taken.get(who) ?? 0;
    if (own >= perIdentityMax || this.#total >= totalMax) {
      const most = own >= perIdentityMax ? `${perIdentityMax} ${this.#what} to one` : `${totalMax} ${this.#what}`;
      throw new GatewayError("api.busy", `At most ${most} at once.`, { hint: "Try again in a moment." });
    }
    this.#taken.set(who, own + 1);
    this.#total += 1;
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#total -= 1;
      const left = (this.#taken.get(who) ?? 1) - 1;
      if (left === 0) this.#taken.delete(who);
      else this.#taken.set(who, left);
    };
  }
}
