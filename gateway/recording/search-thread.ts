/**
 * Searches recordings in a thread of its own, from the first search on: neither the event loop nor the store's writer
 * waits for it. A search has a time; where it ends before all is looked at, the answer says where the next goes on.
 */
import { type ErrorCode, GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { SessionFilter } from "../store/queries.ts";
import type { StoreLocation } from "../store/read-only.ts";
import type { Found } from "./search.ts";

export interface ToSearchWorker {
  readonly call: number;
  readonly store: StoreLocation;
  readonly filter: SessionFilter;
  readonly text: string;
  readonly budgetMs: number;
}
export interface FromSearchWorker {
  readonly call: number;
  readonly found?: Found;
  readonly refused?: { readonly code: ErrorCode; readonly message: string; readonly hint: string | undefined };
}

interface Call {
  readonly resolve: (found: Found) => void;
  readonly reject: (error: GatewayError) => void;
}

export class SearchThread {
  readonly #store: StoreLocation;
  readonly #calls = new Map<number, Call>();
  #worker: Worker | undefined;
  #nextCall = 0;

  constructor(store: StoreLocation) {
    this.#store = store;
  }

  /** @throws GatewayError api.invalid for a text without a word, api.busy where enough searches wait, store.unavailable */
  search(filter: SessionFilter, text: string): Promise<Found> {
    if (this.#calls.size >= limits.searchesMax) {
      const hint = "Try again in a moment.";
      return Promise.reject(new GatewayError("api.busy", "Enough searches are under way.", { hint }));
    }
    const call = ++this.#nextCall;
    this.#worker ??= this.#start();
    return new Promise((resolve, reject) => {
      this.#calls.set(call, { resolve, reject });
      const budgetMs = limits.searchMsMax;
      this.#worker?.postMessage({ call, store: this.#store, filter, text, budgetMs } satisfies ToSearchWorker);
    });
  }

  #start(): Worker {
    const worker = new Worker(new URL("./search-worker.ts", import.meta.url).href);
    worker.onmessage = ({ data }: MessageEvent<FromSearchWorker>) => this.#answer(data);
    worker.onerror = ({ message }) => {
      worker.terminate();
      this.#worker = undefined;
      const failure = new GatewayError("store.unavailable", "The store could not be searched.", { cause: message });
      for (const { reject } of this.#calls.values()) reject(failure);
      this.#calls.clear();
    };
    worker.unref();
    return worker;
  }

  #answer({ call, found, refused }: FromSearchWorker): void {
    const waiting = this.#calls.get(call);
    this.#calls.delete(call);
    if (found) waiting?.resolve(found);
    else if (refused)
      waiting?.reject(new GatewayError(refused.code, refused.message, refused.hint ? { hint: refused.hint } : {}));
  }
}
