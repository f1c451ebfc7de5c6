/**
 * Reads recordings in a thread of its own, from the first reading on: neither the event loop nor the store's writer waits
 * for it. One reading at a time, and so many that wait; `answerReadings` is the other side.
 */
import { type ErrorCode, GatewayError } from "../errors.ts";
import type { StoreLocation } from "../store/read-only.ts";

export interface ToReadingWorker<Asked> {
  readonly call: number;
  readonly store: StoreLocation;
  readonly asked: Asked;
}

export interface FromReadingWorker<Answer> {
  readonly call: number;
  readonly answer?: Answer;
  readonly refused?: { readonly code: ErrorCode; readonly message: string; readonly hint: string | undefined };
}

interface Call<Answer> {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: GatewayError) => void;
}

export interface ReadingThreadOptions {
  readonly store: StoreLocation;
  /** Of the worker's module. */
  readonly worker: URL;
  /** Why one more is refused, and why none can be answered. */
  readonly busy: string;
  readonly failed: string;
}

export class ReadingThread<Asked, Answer extends object> {
  readonly #options: ReadingThreadOptions;
  readonly #calls = new Map<number, Call<Answer>>();
  #worker: Worker | undefined;
  #nextCall = 0;

  constructor(options: ReadingThreadOptions) {
    this.#options = options;
  }

  /** @param max of readings under way. @throws GatewayError api.busy where there are as many, store.unavailable */
  ask(asked: Asked, max: number): Promise<Answer> {
    const { store, busy } = this.#options;
    if (this.#calls.size >= max) {
      return Promise.reject(new GatewayError("api.busy", busy, { hint: "Try again in a moment." }));
    }
    const call = ++this.#nextCall;
    this.#worker ??= this.#start();
    return new Promise((resolve, reject) => {
      this.#calls.set(call, { resolve, reject });
      this.#worker?.postMessage({ call, store, asked } satisfies ToReadingWorker<Asked>);
    });
  }

  #start(): Worker {
    const worker = new Worker(this.#options.worker.href);
    worker.onmessage = ({ data }: MessageEvent<FromReadingWorker<Answer>>) => this.#settle(data);
    worker.onerror = ({ message }) => {
      worker.terminate();
      this.#worker = undefined;
      const failure = new GatewayError("store.unavailable", this.#options.failed, { cause: message });
      for (const { reject } of this.#calls.values()) reject(failure);
      this.#calls.clear();
    };
    worker.unref();
    return worker;
  }

  #settle({ call, answer, refused }: FromReadingWorker<Answer>): void {
    const waiting = this.#calls.get(call);
    this.#calls.delete(call);
    if (answer) waiting?.resolve(answer);
    else if (refused)
      waiting?.reject(new GatewayError(refused.code, refused.message, refused.hint ? { hint: refused.hint } : {}));
  }
}
