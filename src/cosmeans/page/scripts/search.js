// Search: whole words of what the table shows, or their beginnings where no word is found; hits are marked.
const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
const WORD = /[\p{L}\p{N}][\p{L}\p{N}\p{M}]*/gu;
const tokensOf = (text) => (text.match(WORD) ?? []).map(plain);
let visible = null;

const shownText = (place) => (clusters.best[place].length ? examples.text[clusters.best[place][0]] : "");
const shownWords = (place) => wordsOf(place).slice(0, 6);

function visibleTokens(place) {
  visible ??= clusters.id.map((id, where) => new Set(tokensOf([id, clusters.name[where] ?? "", ...shownWords(where), shownText(where)].join(" "))));
  return visible[place];
}

const fits = (token, term, prefix) => token === term || token === `${term}s` || token === `${term}es` || `${token}s` === term || (prefix && token.startsWith(term));

function searched(places) {
  const terms = tokensOf(state.query);
  state.terms = terms;
  if (!terms.length) return places;
  for (const prefix of [false, true]) {
    state.prefix = prefix;
    const found = places.filter((place) => terms.every((term) => [...visibleTokens(place)].some((token) => fits(token, term, prefix))));
    if (found.length) return found;
  }
  return [];
}

// the text with what was searched for marked in it
function marked(text) {
  if (!state.terms.length) return [text];
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(WORD)) {
    if (!state.terms.some((term) => fits(plain(found[0]), term, state.prefix))) continue;
    parts.push(text.slice(end, found.index), el("mark", {}, found[0]));
    end = found.index + found[0].length;
  }
  return [...parts, text.slice(end)];
}
