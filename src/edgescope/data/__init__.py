"""Data sets by name: ``DATA.build("fashion-5k:train=1000").load()``."""

from __future__ import annotations

from edgescope.data.ball import Ball
from edgescope.data.cifar import CIFAR10, CIFAR10First5k
from edgescope.data.dataset import Dataset
from edgescope.data.digits import Digits
from edgescope.data.fashion_5k import Fashion5k
from edgescope.data.images import ImageSource
from edgescope.data.licence import Licence
from edgescope.data.mnist import MNIST, FashionMNIST
from edgescope.data.modular_addition import ModularAddition
from edgescope.data.source import DataShape, DataSource
from edgescope.data.teacher import Teacher, TeacherNetwork
from edgescope.data.text import Text
from edgescope.data.xor import XOR
from edgescope.registry import Registry

DATA: Registry[DataSource] = Registry("data set")
DATA.add("fashion-5k", Fashion5k)
DATA.add("digits", Digits)
DATA.add("mnist", MNIST)
DATA.add("fashion-mnist", FashionMNIST)
DATA.add("cifar10", CIFAR10)
DATA.add("cifar10-5k", CIFAR10First5k)
DATA.add("text", Text)
DATA.add("xor", XOR)
DATA.add("ball", Ball)
DATA.add("teacher", Teacher)
DATA.add("teacher-network", TeacherNetwork)
DATA.add("modular-addition", ModularAddition)
DATA.add("licence", Licence)

__all__ = ["DATA", "DataShape", "DataSource", "Dataset", "ImageSource"]
