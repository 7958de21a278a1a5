/** Values that survive a reload. Where the browser keeps nothing, they last as long as the page. */

class Shelf {
  #held = new Map();
  #find;

  /** @param find the browser's storage; to ask for it fails where it is blocked. */
  constructor(find) {
    this.#find = find;
  }

  /** The value of a name; null for none. */
  get(name) {
    if (this.#held.has(name)) return this.#held.get(name);
    try {
      return JSON.parse(this.#find().getItem(`liquidlm.${name}`));
    } catch {
      return null;
    }
  }

  /** Keep a value; returns whether the browser has room for it. null removes it. */
  set(name, value) {
    this.#held.delete(name);
    try {
      if (value === null) this.#find().removeItem(`liquidlm.${name}`);
      else this.#find().setItem(`liquidlm.${name}`, JSON.stringify(value));
      return true;
    } catch {
      this.#held.set(name, value);
      return false;
    }
  }
}

export const browser = new Shelf(() => localStorage);
export const tab = new Shelf(() => sessionStorage);
