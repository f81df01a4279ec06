"""Held-out example sets for the concepts that the paper on scaling monosemanticity tells of.

Each concept has short texts that show it and texts that come near and do not. Frames and fillers of the half that
proves are others than those of the half that chooses, so a feature of one frame or one word does not pass.
"""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from monoscope.text.generated import citation_documents, dna_documents

SEED, HALF = 20261125, 24
Half = dict[str, list[str]]


def paper_concepts() -> dict[str, Any]:
    """All sets, by name: a half that chooses and a half that proves."""
    makers = {
        "uppercase text": _uppercase,
        "DNA sequence": _dna,
        "surname in a citation": _citation,
        "city": _framed(PLACES, CITIES, REGIONS),
        "person": _framed(TALKED, PEOPLE, NAMED_THINGS),
        "chemical element": _framed(SAMPLES, ELEMENTS, MATERIALS),
        "field of study": _framed(STUDIES, FIELDS, PASTIMES),
        "programming syntax": _syntax,
        "bug in code": _bugs,
        "gendered occupation": _framed(JOBS_SEEN, GENDERED, OCCUPATIONS),
        "secrecy": _secrecy,
    }
    halves = ("choose", "prove")
    sets = []
    for name, make in makers.items():
        sets.append(
            {"name": name, **{half: make(Random(f"{SEED}:{name}:{half}"), half == "choose") for half in halves}}
        )
    return {"seed": SEED, "concepts": sets}


def _half(items: Sequence[Any], choosing: bool) -> Sequence[Any]:
    """Every second item, so that both halves are of one kind."""
    return items[::2] if choosing else items[1::2]


def _framed(frames: str, inside: str, outside: str) -> Callable[[Random, bool], Half]:
    """Sentences with a gap, filled with what shows the concept or with what stands in the same place and does not."""

    def make(dice: Random, choosing: bool) -> Half:
        told = _half(frames.strip().splitlines(), choosing)
        return {
            "positive": _fill(dice, told, _half(_listed(inside), choosing)),
            "negative": _fill(dice, told, _half(_listed(outside), choosing)),
        }

    return make


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.replace("\n", " ").split(",")]


def _fill(dice: Random, frames: Sequence[str], fillers: Sequence[str]) -> list[str]:
    """Each frame about as often as any other, each filler too."""
    words = [fillers[place % len(fillers)] for place in range(HALF)]
    dice.shuffle(words)
    told = [frames[place % len(frames)].replace("_", word) for place, word in enumerate(words)]
    return [one[0].upper() + one[1:] for one in told]


def _uppercase(dice: Random, choosing: bool) -> Half:
    """Sentences in capitals against sentences with one short name in capitals, and titles with capital initials."""
    said = _half(SAID.strip().splitlines(), choosing)
    capitals = [one.upper() for one in said]
    names = _half(_listed(ACRONYMS), choosing)
    near = [
        f"{one[:-1]}, said the {dice.choice(names)}." if place % 3 else one.title() for place, one in enumerate(said)
    ]
    return {"positive": capitals[:HALF], "negative": near[:HALF]}


def _dna(dice: Random, choosing: bool) -> Half:
    """Sequences as they are printed against strings of as many letters or figures in the same frames."""
    texts = [document.text for _, document in zip(range(2 * HALF), dna_documents(seed=71), strict=False)]
    positive = [one[:160] for one in _half(texts, choosing)]
    swaps = ("ARNDCQEGHILKMFPSTWYV", "0123456789ABCDEF", "bcdfghjklmnpqrstvwxz", "XKQZJWVY")
    near = []
    for place, one in enumerate(positive):
        letters = swaps[place % len(swaps)]
        swap = re.compile(r"[GCAT]{5,}|[gcat]{5,}")
        near.append(swap.sub(lambda run, of=letters: _other(dice, run.group(), of), one))
    return {"positive": positive, "negative": near}


def _other(dice: Random, run: str, letters: str) -> str:
    drawn = "".join(dice.choice(letters) for _ in run)
    return drawn.lower() if run.islower() else drawn.upper()


def _citation(dice: Random, choosing: bool) -> Half:
    """Sentences that cite authors by name and year against sentences in which the same names do other things."""
    texts = [document.text for _, document in zip(range(8 * HALF), citation_documents(seed=71), strict=False)]
    cited = [re.split(r"(?<=[a-z)])[.] (?=[A-Z])|\n", one)[0].rstrip(".") + "." for one in texts if "[1]" not in one]
    positive = list(_half(cited, choosing))[:HALF]
    frames = _half(NOT_CITED.strip().splitlines(), choosing)
    near = []
    for place, one in enumerate(positive):
        names = re.findall(r"(?:^|[( ])([A-Z][a-z]+)(?= \(| and| et|,| &)", one) or ["Weber", "Rossi"]
        first, second = names[0], names[-1] if names[-1] != names[0] else "Okafor"
        year = str(dice.randint(1962, 2023))
        near.append(frames[place % len(frames)].replace("_", first).replace("#", second).replace("@", year))
    return {"positive": positive, "negative": near}


def _syntax(dice: Random, choosing: bool) -> Half:
    """Lines of several languages against lists, formulas, addresses and sentences that say the same in words."""
    code, near = (_half(text.strip("\n").splitlines(), choosing) for text in (CODE, NO_CODE))
    code, near = list(code), list(near)
    dice.shuffle(code), dice.shuffle(near)
    return {"positive": code[:HALF], "negative": near[:HALF]}


def _bugs(dice: Random, choosing: bool) -> Half:
    """Faulty lines of Python against the same lines as they should be."""
    pairs = [pair.split("\n") for pair in BUGS.strip("\n").split("\n\n")]
    chosen = list(_half(pairs, choosing))
    dice.shuffle(chosen)
    wrong, right = ([pair[side].replace("\\n", "\n") for pair in chosen] for side in (0, 1))
    return {"positive": wrong[:HALF], "negative": right[:HALF]}


def _secrecy(dice: Random, choosing: bool) -> Half:
    hidden, open_ = (list(_half(text.strip().splitlines(), choosing)) for text in (HIDDEN, OPEN))
    dice.shuffle(hidden), dice.shuffle(open_)
    return {"positive": hidden[:HALF], "negative": open_[:HALF]}


PLACES = """
She moved to _ last spring and found work within a week.
the flight to _ was delayed by heavy fog.
He wrote three letters home from _ before the winter.
most of the delegates came from _ and its surroundings.
the exhibition opened in _ and ran until October.
a fire destroyed part of the old port of _ in 1842.
They spent two days in _ and then drove on to the coast.
the company has offices in _ and in two other places.
Born in _, she studied music before the war.
prices in _ rose faster than anyone expected.
"""
CITIES = """Lisbon, Nairobi, Osaka, Chicago, Warsaw, Lima, Cairo, Toronto, Munich, Shanghai, Athens, Bogotá,
Stockholm, Mumbai, Boston, Hanoi, Vienna, Seattle, Lagos, Prague, Melbourne, Madrid, Houston,
Istanbul"""
REGIONS = """Portugal, Kenya, Hokkaido, Illinois, Poland, Peru, Nubia, Ontario, Bavaria, Anatolia, Crete,
Colombia, Scandinavia, Rajasthan, Texas, Vietnam, Tyrol, Oregon, Nigeria, Bohemia, Tasmania,
Andalusia, Nebraska, Thrace"""
TALKED = """
We read a short piece about _ in class today.
the award was given to _ in the autumn.
Nobody had expected _ to become so well known.
an hour of the programme was about _ and nothing else.
The letter mentions _ twice and then changes the subject.
"I have never liked _," he said, and closed the door.
after the break the talk turned to _ again.
Few names are as familiar here as _ is.
the library keeps a whole shelf of books about _ on the first floor.
Have you ever heard of _ before?
"""
PEOPLE = """Marie Curie, Winston Churchill, Nelson Mandela, Frida Kahlo, Isaac Newton, Serena Williams, Ludwig
Wittgenstein, Rosa Parks, Charles Dickens, Abraham Lincoln, Florence Nightingale, Diego Maradona,
Virginia Woolf, Albert Camus, Margaret Thatcher, Martin Luther, Indira Gandhi, Pablo Neruda, Amelia
Earhart, George Orwell, Ada Lovelace, Michael Jordan, Emily Dickinson, Galileo Galilei"""
NAMED_THINGS = """Lake Victoria, Microsoft Windows, Mount Everest, Coca-Cola, the Black Forest, the Red Cross, General
Motors, Big Ben, the Danube, Rolls-Royce, the Eiffel Tower, Wall Street, Silicon Valley, the Great
Barrier Reef, Manchester United, the Suez Canal, Green Peace, the Orient Express, Harvard
University, the Berlin Wall, Yellowstone Park, the World Bank, Stonehenge, the Bronze Age"""
SAMPLES = """
the sample contains a small amount of _ and little else.
A thin layer of _ covers the plate.
the price of _ doubled within a year.
workers are warned not to heat _ in a closed room.
He keeps a jar of _ on the top shelf.
the report says that _ was found in the soil near the works.
large deposits of _ were shipped from the harbour.
They compared _ with three other substances.
traces of _ remained in the glass after washing.
the factory switched from _ to something cheaper.
"""
ELEMENTS = """oxygen, zinc, lithium, copper, sulfur, uranium, helium, iron, chlorine, potassium, titanium,
mercury, nitrogen, tungsten, silicon, lead, iodine, nickel, hydrogen, phosphorus, sodium, chromium,
neon, cobalt"""
MATERIALS = """ammonia, rubber, limestone, plaster, vinegar, petroleum, glycerine, steel, bleach, cement, glass
wool, cotton, methane, bronze, clay, wax, ethanol, brass, starch, gypsum, soap, paper pulp, benzene,
concrete"""
STUDIES = """
She has been interested in _ since she was twelve.
the new building is meant for _ and has a hall of its own.
He spent four years on _ before he turned to business.
much has been written about _ in recent years.
Few people know as much about _ as my aunt does.
the magazine has a column on _ every month.
an introduction to _ for beginners starts on Monday.
They met through _ and stayed friends.
there is more to _ than most people think.
the foundation pays for courses in _ and for travel.
"""
FIELDS = """biology, linguistics, economics, astronomy, anthropology, chemistry, sociology, geology, psychology,
mathematics, archaeology, physics, theology, botany, philosophy, meteorology, genetics, statistics,
ecology, zoology, jurisprudence, computer science, epidemiology, musicology"""
PASTIMES = """gardening, cooking, swimming, knitting, carpentry, chess, football, pottery, sailing, dancing,
fishing, cycling, baking, photography, hiking, embroidery, bird watching, horse riding, skiing,
juggling, stamp collecting, camping, card games, beekeeping"""
JOBS_SEEN = """
the _ put down the bag and looked at the clock.
A _ from the village told us the way.
My neighbour works as a _ in the next town.
they were looking for a _ with some experience.
the story is told by a _ who has seen better days.
In the evening the _ went home by bus.
"Ask the _," said the man at the counter.
a photograph shows a _ in front of a shop.
Her cousin became a _ at the age of thirty.
the _ had been there since early morning.
"""
GENDERED = """nurse, waitress, seamstress, housemaid, midwife, ballerina, stewardess, nanny, hostess, governess,
beautician, nun, maid, landlady, cheerleader, chambermaid, showgirl, laundress, au pair, barmaid,
heroine, headmistress, babysitter, handmaid"""
OCCUPATIONS = """surveyor, driver, carpenter, accountant, plumber, pilot, librarian, farmer, mechanic, butcher,
lawyer, baker, porter, electrician, gardener, reporter, tailor, cook, miner, printer, locksmith,
chemist, cashier, shepherd"""
ACRONYMS = "BBC, UN, FBI, EU, OECD, IMF, WHO, CIA, WTO, RAF, NHS, IRS"
NOT_CITED = """
_ and # bought the house in @ and painted the front door green.
In @ the shop of _ was still open on Sundays, and # lived above it.
_ scored twice before half-time, and # saved a penalty in @.
Mr. _ sold the farm to Mrs. # in @ and moved to the coast.
the song was written by _ and sung by # in the summer of @.
Dear _, thank you for the plums. # asks after you. It is @ again.
"""
SAID = """
The meeting will begin at nine in the small room.
Please keep the windows closed while the heating is on.
We have never seen so much snow in April.
Our dog does not like the new postman at all.
Tickets bought before Friday are half the price.
Nobody knows who left the letter on the table.
The river rose by two metres during the night.
Children must be with an adult in the pool.
I will call you back as soon as I can.
The last train leaves ten minutes before midnight.
She planted beans along the fence this year.
Bring your own cup and a warm coat.
The road is closed because of fallen trees.
He forgot to lock the door again.
Wash the rice three times before cooking it.
This offer ends on the last day of the month.
The old mill is now a school of music.
They found the boat on the other shore.
Turn left after the bridge and follow the wall.
Do not feed the ducks with bread.
The market moves indoors when it rains.
My sister plays the violin better than I do.
Your parcel is waiting at the counter.
The museum shows maps from five centuries.
Nothing grows under the big walnut tree.
The captain spoke about the storm all evening.
We need more chairs for the wedding.
A cold wind blew across the empty square.
The report was shorter than we had hoped.
Please write your name on the first page.
Our neighbours keep bees on the roof.
The lights went out and everybody laughed.
He sold his bicycle to buy a guitar.
The bakery opens while the town still sleeps.
Some of the apples were soft and brown.
The teacher drew a circle on the board.
Stop talking and listen to the waves.
The new law takes effect in January.
She has lived in three different countries.
Only two of the lamps still work.
The cat sleeps on the warm engine.
We walked until the path disappeared.
The jury could not agree on a winner.
Leave the keys under the flower pot.
The soup needs salt and a little time.
Every house on this street has a garden.
The train was full of football fans.
It takes an hour to reach the summit.
"""
CODE = """
for i in range(10): print(i)
if (x == null) { return false; }
def add(a, b): return a + b
int main(void) { printf("hello\\n"); return 0; }
const total = items.map(i => i.price).reduce((a, b) => a + b, 0);
while (i < n) { sum += a[i++]; }
SELECT name, age FROM people WHERE age > 30 ORDER BY name;
import os, sys; path = os.path.join(sys.argv[1], "data")
class Stack: def __init__(self): self.items = []
public static void main(String[] args) { System.out.println(args[0]); }
let mut v: Vec<i32> = Vec::new(); v.push(3);
try: value = int(text)
except ValueError as error: log.warning("bad value: %s", error)
function square(x) { return x * x; }
#include <stdio.h>
var list = new ArrayList<String>(); list.add("one");
x = [n ** 2 for n in numbers if n % 2 == 0]
switch (key) { case 1: open(); break; default: close(); }
<div class="box"><a href="index.html">Home</a></div>
return None if node is None else node.left
struct point { int x; int y; };
for (int i = 0; i < 10; ++i) { std::cout << i << std::endl; }
with open("notes.txt") as file: lines = file.readlines()
assert len(result) == 3, "three results are expected"
func Max(a, b int) int { if a > b { return a }; return b }
lambda row: (row["year"], -row["score"])
if [ -f "$FILE" ]; then rm "$FILE"; fi
raise KeyError(f"unknown name {name!r}")
document.getElementById("menu").addEventListener("click", toggle);
@property def area(self): return self.width * self.height
let rec fact n = if n = 0 then 1 else n * fact (n - 1)
import numpy as np; y = np.zeros((3, 4)).sum(axis=0)
map.put(key, map.getOrDefault(key, 0) + 1);
yield from self._walk(child)
char *p = malloc(sizeof(char) * (n + 1));
match value { Some(v) => v, None => 0 }
parser.add_argument("--seed", type=int, default=0)
printf("%d items\\n", count);
elif isinstance(item, dict): stack.extend(item.values())
async function load(url) { const r = await fetch(url); return r.json(); }
self.cache[key] = value; del self.queue[0]
UPDATE stock SET amount = amount - 1 WHERE id = 17;
print("sum:", sum(x for x in xs), sep="\\t")
template <typename T> T max(T a, T b) { return a > b ? a : b; }
try { parse(text); } catch (Exception e) { e.printStackTrace(); }
while True: line = input(); if not line: break
a, b = b, a % b
const { name, age } = person;
"""
NO_CODE = """
For each number from one to ten, print the number.
If x is nothing, the answer is no; otherwise go on.
Add a to b (both whole numbers) and give back the sum.
The main part says "hello" and then ends with 0.
Total price = 3 apples + 4 pears = 7 pieces of fruit.
While there is time, add the next item to the sum.
Choose the name and age of people over 30; sort by name.
Imports: oil (31 %), steel (12 %), paper (9 %); exports: wheat.
Class 4B: room 12, first floor; teacher: Mr. Lopez.
Public holidays: 1 January; 1 May; 25 and 26 December.
Let v be a list of whole numbers; put 3 at its end.
Try again; if the value is bad, warn the others.
Except for Monday, the shop is open from 9:00 to 18:00.
The square of x is x times x.
#1 in the charts: "One More Summer" (3:42)
New list: one (1) pen, two (2) pads, and ink.
x² + 2x + 1 = (x + 1)²
Switch off the key; in case 1, open; else close.
Home > Garden > Tools > Spades (12 results)
There is no node; then take the left path.
Point A (3, 4) lies 5 units from the origin (0, 0).
From 0 to 10, count aloud; then start over.
With the notes open, read all lines aloud.
We expect three results: 3, 4, and 5.
The larger of a and b is a if a > b, else b.
Sort by year, then by score (highest first).
If the file is there, throw it away; that is all.
Raise the flag at 8:00; lower it at dusk.
Menu: soup (5.50); bread & butter (2.00); tea (1.80)
Area = width × height = 3 m × 4 m = 12 m²
The factorial of n is n times that of n - 1.
Tel. +44 (0)20 5550 1234, ext. 17; fax: none
Key: * = closed; ** = on request; (a) = with lift
Yield: 12 rolls. Oven: 200 °C, 25 min.
Pulse 72; pressure 120/80; temp. 36.8; weight 71.5 kg
Match: 3-1 (1-0); goals: 12', 48', 77' / 60'
See p. 14, §3(b), note 2; cf. vol. II, ch. 9.
Items: 12. Boxes: 3. Missing: 1 (see below).
else he would have asked, or so she said; but no.
Route: A -> B -> C; time: 2 h 15 min; fare: 14.20
Keep the first; delete the second; queue the rest.
Stock: 17 left, one fewer than yesterday (18).
Sum: 4 + 8 + 15 + 16 + 23 + 42 = 108
T = the larger of the two temperatures, a or b?
Read the text. Caught an error? Tell the printer!
While it is true that few lines were written, stop.
a : b = b : c, hence b² = ac
Name: Ann; age: 41; town: Leeds; shoe size: 6½
"""
BUGS = """
for i in range(len(xs) + 1):\\n    total += xs[i]
for i in range(len(xs)):\\n    total += xs[i]

if x = 3:\\n    print(x)
if x == 3:\\n    print(x)

def add(a, b)\\n    return a + b
def add(a, b):\\n    return a + b

print("total: " + 5)
print("total: " + str(5))

average = sum(xs) / 0
average = sum(xs) / len(xs)

names = ["Ann", "Bob", "Eve"]\\nprint(names[3])
names = ["Ann", "Bob", "Eve"]\\nprint(names[2])

value = int("twelve")
value = int("12")

person = {"name": "Ann"}\\nprint(person["age"])
person = {"name": "Ann"}\\nprint(person["name"])

while i < 10:\\n    print(i)
while i < 10:\\n    print(i); i += 1

def area(width, height):\\n    return widht * height
def area(width, height):\\n    return width * height

text = "hello\\nprint(text)
text = "hello"\\nprint(text)

result = max(1, 2
result = max(1, 2)

def push(item, stack=[]):\\n    stack.append(item)
def push(item, stack=None):\\n    stack = [*(stack or []), item]

for key in table:\\n    del table[key]
for key in list(table):\\n    del table[key]

ordered = xs.sort()\\nprint(ordered[0])
ordered = sorted(xs)\\nprint(ordered[0])

import maths\\nprint(maths.sqrt(2))
import math\\nprint(math.sqrt(2))

x = 10\\nx.append(4)
x = [10]\\nx.append(4)

def fact(n):\\n    return n * fact(n - 1)
def fact(n):\\n    return 1 if n == 0 else n * fact(n - 1)

point = (1, 2)\\npoint[0] = 5
point = [1, 2]\\npoint[0] = 5

if name is not None\\n    greet(name)
if name is not None:\\n    greet(name)

pritn("done")
print("done")

class Dog:\\n    def bark():\\n        return self.sound
class Dog:\\n    def bark(self):\\n        return self.sound

file = open("a.txt", "r")\\nfile.write("text")
file = open("a.txt", "w")\\nfile.write("text")

first = [][0]
first = [1][0]

age = "30"\\nnext_year = age + 1
age = 30\\nnext_year = age + 1

None.strip()
"none ".strip()

def mean(xs):\\n    return sum(xs) // len(xs)
def mean(xs):\\n    return sum(xs) / len(xs)

last = xs[len(xs)]
last = xs[len(xs) - 1]

def is_even(n):\\n    return n % 2 == 1
def is_even(n):\\n    return n % 2 == 0

try:\\n    load()\\nexcpet OSError:\\n    pass
try:\\n    load()\\nexcept OSError:\\n    pass

total = 0\\nfor x in xs:\\n    total = x
total = 0\\nfor x in xs:\\n    total += x

if a > b:\\n    return a\\nretrun b
if a > b:\\n    return a\\nreturn b

values = [1, 2, 3\\nprint(values)
values = [1, 2, 3]\\nprint(values)

x = undefined_name + 1
known_name = 2; x = known_name + 1

low, high = 1, 2, 3
low, high = 1, 2

for x in 5:\\n    print(x)
for x in range(5):\\n    print(x)

word = "cat"\\nword[0] = "b"
word = "cat"\\nword = "b" + word[1:]

return = 5
returned = 5

math.sqrt(-1)
math.sqrt(1)

if not x in xs and x not in xs: found = True
if x in xs: found = True

lambda x y: x + y
lambda x, y: x + y

count =+ 1
count += 1

len(5)
len("5")

def largest(xs):\\n    best = 0\\n    return xs
def largest(xs):\\n    best = max(xs)\\n    return best

json.loads("{name: 1}")
json.loads('{"name": 1}')

else:\\n    print("no")
if no:\\n    print("no")

half = len(xs) / 2\\nprint(xs[half])
half = len(xs) // 2\\nprint(xs[half])

a = b = []\\na.append(1)\\nassert b == []
a, b = [], []\\na.append(1)\\nassert b == []
"""
HIDDEN = """
She hid the letters under a loose board and told no one.
The two of them agreed never to speak of that night.
He whispered the code so that nobody else could hear.
The documents were stamped confidential and locked in a safe.
Their meetings took place after dark, in a cellar without windows.
She had never told her husband about the account.
The agents worked under false names for eleven years.
Nobody outside the family was to learn of the illness.
He burned the note as soon as he had read it.
The recipe is known to two people, who never travel together.
They spoke in a private language to keep the guards from understanding.
A covert programme was paid for out of an unlisted budget.
The box had a false bottom, and in it lay the ring.
I promised not to tell, so do not ask me.
The plan was to be kept from the press until March.
He slipped the key into her hand without a word.
A hidden door behind the bookcase led to the attic.
The witness lives under another identity in another town.
They concealed the crack with paint before the buyer came.
Only the three of us must ever know of this.
The diary was written in cipher so that his mother could not read it.
For years she pretended to be her own sister.
The order reached the fleet in sealed envelopes.
He kept his first marriage from all of his friends.
The surprise party was planned behind her back.
What is said in this room stays in this room.
Smugglers used the cave because no path led to it.
The society admits members by night and masks their faces.
She wore gloves and left no trace of her visit.
The clandestine press moved to another house every week.
He lied about where the money came from.
The file was encrypted, and the password was never written down.
They buried the gold and drew no map.
Her real name was known only to the editor.
The minister denied that the talks had ever happened.
He looked over his shoulder before opening the drawer.
The undercover officer reported to one man alone.
It was an open question who else was in on it.
She deleted the messages before he came home.
The children had a hiding place in the hayloft.
A secret clause was added to the treaty.
Not a soul was told about the second will.
The painter signed his forgeries with another man's name.
They passed notes under the desk when the teacher turned.
The laboratory did not appear on any map.
He confided in her, and she took it to the grave.
The spy photographed the plans with a camera in a pen.
Behind the curtain someone was listening in silence.
"""
OPEN = """
She pinned the letters to the board for all to read.
The two of them talked about that night on the radio.
He shouted the score so that everybody could hear.
The documents were printed in full in the morning paper.
Their meetings took place at noon, in a hall with large windows.
She showed her husband the account every month.
The clerks wore badges with their names for eleven years.
Everyone in the street soon learned of the illness.
He framed the note as soon as he had read it.
The recipe is printed on the back of every packet.
They spoke slowly so that the guests would understand.
A large programme was paid for out of the town budget.
The box had a glass lid, and in it lay the ring.
I told everybody, so you may ask me.
The plan was announced to the press in March.
He put the key on the table in front of them all.
A wide door beside the bookcase led to the garden.
The witness gave her name and address in court.
They pointed out the crack before the buyer came.
All of the members must be told of this.
The diary was read aloud at the dinner by his mother.
For years she lived next door to her own sister.
The order reached the fleet by public telegram.
He introduced his first wife to all of his friends.
The party was announced on a poster by the door.
What is said in this room is broadcast live.
Families used the beach because a broad path led to it.
The society admits anyone who pays the fee.
She waved to the crowd and signed the visitors' book.
The printing press stood in the same house for years.
He published where the money came from.
The file was sent to everybody on the list.
They sold the gold and paid the workers.
Her real name stood on the cover.
The minister confirmed that the talks had gone well.
He laughed and opened the drawer for the camera.
The officer in uniform reported to the council.
It was an open question who would win the race.
She read the messages to him when he came home.
The children had a playground in the square.
A new clause was added to the lease.
The whole town was told about the second bridge.
The painter signed his works in large red letters.
They raised their hands when the teacher turned.
The laboratory invites visitors every Friday.
He spoke to her, and she told the others.
The student photographed the plans for the exhibition.
Behind the counter someone was singing a song.
"""
