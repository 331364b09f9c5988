"""Kinds of everyday things: names that stand for each other, and names of which at most one fits a thing.

A caption with "man" already names the label "person", and one with "bike" the label "bicycle". A caption with "horse"
contradicts the label "zebra" if no horse is in the photo.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from captioner.metrics.nouns import LabelFinder

_ROLES = (
    "player, rider, surfer, skier, snowboarder, skateboarder, cyclist, bicyclist, worker, climber, soldier, athlete, "
    "dancer, musician, chef, police officer, policeman, firefighter, diver, astronaut, clown, student, swimmer, runner"
)
# Names of the same thing; any of a line stands for any other.
SYNONYMS = tuple(
    tuple(line.split(", "))
    for line in (
        f"person, man, woman, guy, lady, adult, couple, group, crowd, team, family, bride, groom, {_ROLES}",
        f"person, child, kid, toddler, baby, boy, girl, group, crowd, team, family, {_ROLES}",
        "bicycle, bike",
        "motorcycle, motorbike, bike, scooter, moped",
        "car, taxi, jeep, sedan",
        "truck, fire truck, pickup",
        "train, locomotive, subway, tram, trolley",
        "railway, track, platform, train, station",
        "boat, ship, sailboat, canoe, kayak, raft, ferry, yacht, vessel",
        "airplane, plane, jet, aircraft",
        "couch, sofa, loveseat",
        "chair, stool, seat, armchair, throne",
        "table, dining table, desk, counter",
        "television, tv, screen, monitor",
        "phone, cell phone, telephone, cellphone, smartphone",
        "computer, laptop",
        "cow, bull, calf, cattle, ox, bison, buffalo",
        "sheep, lamb",
        "dog, puppy",
        "cat, kitten",
        "horse, pony, foal",
        "deer, antelope",
        "bear, polar bear",
        "leopard, cheetah",
        "chicken, rooster, hen",
        "gull, seagull",
        "monkey, gorilla, chimpanzee, orangutan, ape",
        "turtle, tortoise",
        "rock, stone, boulder",
        "sea, ocean, water, wave, beach, shore, coast",
        "water, river, lake, stream, pond, sea, pool, puddle, waterfall",
        "mountain, hill, cliff, peak",
        "forest, jungle, wood, tree",
        "bush, plant, shrub",
        "grass, field, meadow, pasture, lawn",
        "garden, park, yard",
        "desert, dune, sand",
        "snow, ice, slope",
        "sunset, sunrise, sun, dusk",
        "street, road, highway, alley, sidewalk, crosswalk, intersection",
        "path, trail, walkway, road, sidewalk",
        "building, house, skyscraper, tower, castle, palace, barn, cabin, hut",
        "building, temple, church, cathedral, mosque, pagoda, palace, castle, tower",
        "city, skyline, downtown, town, village",
        "statue, sculpture, monument",
        "staircase, stair, step",
        "dock, pier, harbor, marina",
        "store, shop, market",
        "fence, wall, railing",
        "cup, mug, coffee, espresso, tea",
        "glass, wine glass, wine, beer, cocktail, juice",
        "bag, backpack, handbag, purse",
        "suitcase, luggage, bag",
        "hat, cap, hood, helmet",
        "shirt, jacket, coat, sweater, top",
        "pants, jeans",
        "shoe, boot, sneaker, sandal",
        "dress, skirt, gown",
        "swimsuit, bikini",
        "necktie, bow tie, tie",
        "sunglasses, glass, goggles",
        "suit, uniform, outfit",
        "refrigerator, fridge",
        "stove, oven",
        "pot, pan, kettle, teapot",
        "plate, dish, bowl, tray",
        "box, crate, basket",
        "racket, tennis racket, racquet, tennis racquet",
        "ball, tennis ball, soccer ball, basketball, football, baseball, volleyball, golf ball",
        "bat, baseball bat",
        "glove, baseball glove",
        "surfboard, board",
        "skateboard, board",
        "snowboard, board",
        "ski, skier",
        "cake, cupcake",
        "donut, doughnut, pastry",
        "sandwich, burger, hamburger, hot dog",
        "pasta, noodles, spaghetti",
        "toy, doll, teddy bear",
        "painting, drawing, picture, mural",
        "photograph, photo, picture",
        "sign, stop sign, street sign, billboard, poster, banner",
        "balloon, hot air balloon",
        "statue, mannequin",
        "poster, painting, sign",
        "rope, leash, chain",
        "shelf, bookshelf",
        "cabinet, drawer, dresser, wardrobe",
        "lamp, light, lamp post",
    )
)
# A general name, and names of its kinds; a kind excludes the others unless they are synonyms or labels of the photo.
KINDS = {
    "animal": (
        "dog, cat, horse, cow, sheep, goat, pig, elephant, bear, panda, zebra, giraffe, lion, tiger, leopard, fox, "
        "wolf, deer, camel, llama, donkey, monkey, koala, kangaroo, rabbit, squirrel, hamster, mouse, rat, beaver, "
        "otter, seal, turtle, frog, lizard, snake, crocodile, dinosaur"
    ),
    "bird": (
        "duck, goose, swan, chicken, turkey, eagle, hawk, vulture, owl, parrot, pigeon, gull, pelican, flamingo, "
        "heron, stork, crane, ostrich, peacock, penguin, hummingbird, robin, finch"
    ),
    "insect": "spider, scorpion, butterfly, bee, dragonfly, beetle, ladybug, grasshopper",
    "vehicle": "car, truck, bus, van, train, tractor, bulldozer, ambulance, boat, airplane, helicopter, submarine",
    "furniture": "couch, chair, table, bench, bed, crib, cabinet",
    "appliance": "oven, microwave, refrigerator, toaster, dishwasher, printer, television",
    "food": "pizza, pasta, cake, pie, sandwich, salad, soup, rice, sushi, bread, pancake, waffle, burrito, taco",
    "fruit": "apple, banana, lemon, lime, strawberry, peach, pear, pineapple, watermelon, pomegranate, fig, cherry",
    "vegetable": "carrot, broccoli, cauliflower, tomato, potato, onion, pepper, cabbage, lettuce, cucumber, pumpkin",
    "flower": "rose, tulip, daisy, sunflower, orchid",
    "bag": "suitcase, backpack, basket, box",
    "instrument": "guitar, piano, violin, drum, trumpet, saxophone, flute, harp, accordion, cello",
    "room": "living room, kitchen, bathroom, bedroom, dining room, hallway, garage, basement",
}


class Kinds:
    """The relations between the ``labels`` of a captioner and the words of its captions.

    ::

        kinds = Kinds(["person", "zebra", "horse"])
        kinds.names("zebra", "a horse in a field")  # False
        kinds.names("person", "a man on a horse")  # True
        kinds.rivals("zebra")  # {"horse", "dog", "cat", ...}
        kinds.excluded("zebra", "a horse in a field")  # {"horse"}
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._same: dict[str, set[str]] = {}
        self._general: dict[str, set[str]] = {}
        self._rivals: dict[str, set[str]] = {}
        for line in SYNONYMS:
            for word in line:
                self._same.setdefault(word, {word}).update(line)
        for general, listed in KINDS.items():
            names = {same for kind in listed.split(", ") for same in self._same.get(kind, {kind})}
            for kind in names:
                self._general.setdefault(kind, set()).add(general)
                self._rivals.setdefault(kind, set()).update(names)
        known = {*self._same, *self._general, *KINDS}
        self._finder = LabelFinder([*labels, *sorted(known - set(labels))])

    def words(self, caption: str) -> set[str]:
        """Return the names of kinds and the labels in ``caption``, in the singular."""
        return {self._finder.labels[number] for number in self._finder.find(caption)}

    def names(self, label: str, caption: str) -> bool:
        """Return whether ``caption`` names ``label``, a synonym, its general name, or a kind of it."""
        return bool(self._standing_for(label) & self.words(caption))

    def rivals(self, label: str) -> set[str]:
        """Return the names of other kinds of the same: other animals for ``dog``; none for a label without kinds."""
        return self._rivals.get(label, set()) - self._standing_for(label)

    def excluded(self, label: str, caption: str, seen: Collection[str] = ()) -> set[str]:
        """Return the names in ``caption`` that exclude ``label``: other kinds of the same, none of them ``seen``."""
        shown = {same for word in seen for same in self._standing_for(word)}
        return (self.rivals(label) - shown) & self.words(caption)

    def _standing_for(self, label: str) -> set[str]:
        kinds = {kind for kind, generals in self._general.items() if label in generals}
        return {label} | self._same.get(label, set()) | self._general.get(label, set()) | kinds
